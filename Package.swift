// swift-tools-version: 6.2
import PackageDescription

/// Set once for every Swift target: Swift 6 language mode comes with the tools version.
let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

func source(_ path: String, _ version: Version, traits: Set<Package.Dependency.Trait>? = nil) -> Package.Dependency {
    let url = "https://github.com/\(path)"
    guard let traits else { return .package(url: url, from: version) }
    return .package(url: url, from: version, traits: traits)
}

/// A library target under `Sources/NAME`.
func library(_ name: String, _ dependencies: [Target.Dependency] = [], resources: [Resource]? = nil) -> Target {
    .target(name: name, dependencies: dependencies, resources: resources, swiftSettings: settings)
}

/// The tests of the target `NAME` under `Tests/NAMETests`.
func tests(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .testTarget(name: "\(name)Tests", dependencies: [.init(stringLiteral: name), "TestSupport"] + dependencies, swiftSettings: settings)
}

let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let log = Target.Dependency.product(name: "Logging", package: "swift-log")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let signals = Target.Dependency.product(name: "UnixSignals", package: "swift-service-lifecycle")
let subprocess = Target.Dependency.product(name: "Subprocess", package: "swift-subprocess")
let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let configuration = Target.Dependency.product(name: "Configuration", package: "swift-configuration")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")
let hummingbirdTesting = Target.Dependency.product(name: "HummingbirdTesting", package: "hummingbird")
let httpClient = Target.Dependency.product(name: "AsyncHTTPClient", package: "async-http-client")
let nio = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioHTTP = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioFoundation = Target.Dependency.product(name: "NIOFoundationCompat", package: "swift-nio")
let httpTypes = Target.Dependency.product(name: "HTTPTypes", package: "swift-http-types")

let package = Package(
    name: "mitschnitt",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "mitschnitt", targets: ["mitschnitt"]),
        .executable(name: "mitschnitt-stage", targets: ["mitschnitt-stage"]),
    ],
    dependencies: [
        source("apple/swift-argument-parser", "1.8.2"),
        source("apple/swift-configuration", "1.4.0", traits: ["JSON", "YAML", "CommandLineArguments"]),
        source("apple/swift-crypto", "4.5.2"),
        source("apple/swift-http-types", "1.6.0"),
        source("apple/swift-log", "1.16.2"),
        source("apple/swift-nio", "2.101.2"),
        source("apple/swift-system", "1.8.1"),
        source("groue/GRDB.swift", "7.10.0"),
        source("hummingbird-project/hummingbird", "2.28.1"),
        source("jpsim/Yams", "6.2.2"),
        source("swift-server/async-http-client", "1.37.0"),
        source("swift-server/swift-service-lifecycle", "2.13.0"),
        source("swiftlang/swift-subprocess", "1.0.2"),
    ],
    targets: [
        // Shared nouns and pure cores.
        library("Media"),
        library("RTP", ["Media"]),
        library("Depacketize", ["Media", "RTP"]),
        library("Consent", ["Media", crypto]),
        // Files at rest.
        library("SealedFile", ["Media", crypto]),
        library("PacketLog", ["Media", "SealedFile"]),
        // In front of the packet log.
        .target(name: "CLinux"),
        .systemLibrary(name: "CSRTP", pkgConfig: "libsrtp2", providers: [.apt(["libsrtp2-dev"])]),
        library("SRTP", ["RTP", "CSRTP"]),
        library("Tap", ["Media", "RTP", "SRTP", "Depacketize", "Consent", "PacketLog", "SealedFile", "CLinux", log]),
        // Jobs and the catalog share one database.
        library("JobQueue", ["Media", grdb]),
        library("Catalog", ["Media", "Consent", "SealedFile", "JobQueue", grdb, crypto]),
        // Messages to people, handed to a mail server.
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        library("Mail", ["CCurl"]),
        // From a pipeline file to stage orders, and the child process that carries them out.
        library("Renditions", ["Media", "Depacketize", "PacketLog", "SealedFile", "CLinux", yams, crypto, subprocess, system]),
        .systemLibrary(name: "CFFmpeg", pkgConfig: "libavformat libavcodec libavfilter libswresample libswscale libavutil",
                       providers: [.apt(["libavformat-dev", "libavcodec-dev", "libavfilter-dev", "libswresample-dev", "libswscale-dev"])]),
        .systemLibrary(name: "COpus", pkgConfig: "opus", providers: [.apt(["libopus-dev"])]),
        .systemLibrary(name: "CEBUR128", pkgConfig: "libebur128", providers: [.apt(["libebur128-dev"])]),
        library("FFmpeg", ["CFFmpeg", "COpus", "CEBUR128"]),
        library("Stages", ["Media", "RTP", "Depacketize", "SealedFile", "PacketLog", "Renditions", "FFmpeg"]),
        // The use cases, and the ways to reach them.
        library("Recorder", ["Media", "RTP", "Depacketize", "Consent", "SealedFile", "PacketLog", "SRTP", "Tap", "JobQueue", "Catalog", "Renditions",
                             "Mail", crypto, grdb, log, lifecycle]),
        library("Web", ["Media", "RTP", "Consent", "Recorder", "SealedFile", hummingbird, nio, httpTypes, lifecycle, crypto, log],
                resources: ["index.html", "participant.html", "moderator.html", "style.css", "app.js", "openapi.json"].map { .embedInCode("Resources/\($0)") }),
        library("Truth"),
        .executableTarget(name: "mitschnitt",
                          dependencies: ["Truth", "Depacketize", nio, nioHTTP, nioFoundation, system, signals, "Media", "RTP", "Consent", "SealedFile", "PacketLog", "SRTP", "Tap", "JobQueue", "Catalog", "Renditions",
                                         "Recorder", "Mail", "Web", "CLinux", arguments, configuration, lifecycle, httpClient, yams, log],
                          swiftSettings: settings),
        .executableTarget(name: "mitschnitt-bench",
                          dependencies: ["Truth", "Media", "RTP", "Depacketize", "SealedFile", "PacketLog", "Tap", "Renditions", "CLinux", "JobQueue", "Catalog", "Recorder", httpClient, nio, nioHTTP, nioFoundation, grdb, log],
                          swiftSettings: settings),
        .target(name: "TestSupport", dependencies: ["CSRTP", "SRTP", "Media", "RTP", "Depacketize", "JobQueue", grdb], path: "Tests/TestSupport", swiftSettings: settings),
        .target(name: "Histories", dependencies: ["TestSupport", "Media", "Depacketize", "Consent", "SealedFile", "PacketLog", "Tap", "Catalog", "Renditions", "Recorder", grdb, log],
                path: "Tests/Histories", swiftSettings: settings),
        .executableTarget(name: "mitschnitt-torture", dependencies: ["Media", "RTP", "Depacketize", "JobQueue", "TestSupport", "Histories"], path: "Tests/Torture", swiftSettings: settings),
        .executableTarget(name: "mitschnitt-jobworker", dependencies: ["Media", "JobQueue", "TestSupport"], path: "Tests/JobWorker", swiftSettings: settings),
        // Does what no stage may do, confined like one.
        .executableTarget(name: "mitschnitt-badstage", dependencies: ["Media", "Stages", "Renditions", "FFmpeg", "CLinux"], path: "Tests/BadStage", swiftSettings: settings),
        // Kills a program before a system call of its own: for the tests that nothing is lost or doubled then.
        .executableTarget(name: "syscall-kill", path: "Tests/SyscallKill"),
        tests("Media"), tests("RTP", ["Media", "Truth"]), tests("Depacketize", ["Media", "RTP", "Tap", "Truth"]), tests("Consent", ["Media"]),
        tests("SealedFile", ["Media"]), tests("PacketLog", ["Media", "SealedFile"]), tests("SRTP", ["RTP"]), tests("Tap", ["Media", "RTP", "SRTP", "PacketLog", "SealedFile", "CLinux", "Truth"]),
        tests("Mail"), tests("JobQueue", ["Media", "mitschnitt-jobworker", grdb]), tests("Catalog", ["Media", "Consent", "SealedFile", grdb, crypto]),
        tests("Renditions", ["Media", "CLinux", "Depacketize", "SealedFile", "mitschnitt-stage", "mitschnitt-badstage"]), tests("Stages", ["FFmpeg", "CFFmpeg", "Media", "Depacketize", "Renditions", "SealedFile"]),
        tests("Recorder", ["Histories", "Media", "Mail", "CLinux", "PacketLog", "SealedFile", "Tap", grdb, "Consent", "Catalog", "Renditions", "Truth", log, "JobQueue", "syscall-kill", "mitschnitt", "mitschnitt-stage", "mitschnitt-badstage"]),
        tests("Web", ["Recorder", "JobQueue", "Media", hummingbird, hummingbirdTesting, httpTypes, nio, log]),
        .testTarget(name: "ArticleTests", dependencies: ["TestSupport", "Truth", "mitschnitt", "mitschnitt-stage", "Recorder", "Consent", "Media", "PacketLog", "SealedFile", "Tap",
                                                         grdb, httpClient, nio, nioHTTP, nioFoundation],
                    exclude: ["Pipelines"], swiftSettings: settings),
        .testTarget(name: "EndToEndTests", dependencies: ["TestSupport", "Truth", "mitschnitt", "mitschnitt-stage"], swiftSettings: settings),
        .executableTarget(name: "mitschnitt-stage", dependencies: ["Stages", "Renditions", "FFmpeg", "CLinux"], swiftSettings: settings),
    ]
)
