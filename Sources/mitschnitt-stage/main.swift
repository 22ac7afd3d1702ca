import CLinux
import Foundation
import FFmpeg
import Glibc
import Renditions
import Stages

// One media stage: one process, one job, confined before it reads a byte. The order, the descriptors and the keys come over standard input,
// which is a socket; progress and the result go back over it. Exit status: 0 answered (the answer may be a failure), 1 nobody to answer to, 2 not confined.

var arguments = CommandLine.arguments.dropFirst()
if arguments.first == "--version" {
    print(FFmpegLibrary.versions)
    exit(0)
}
if arguments.first == "--try" { Tries.run(arguments.dropFirst()) }
let isCheck = arguments.first == "--check"
let isLive = arguments.first == "--live"
if isCheck || isLive { arguments = arguments.dropFirst() }
if isLive { Live.runBehind() }
let confinement: StageConfinement
do {
    confinement = try StageConfinement.enter(StageLimits(arguments: arguments), readable: TextLabel.font)
} catch {
    FileHandle.standardError.write(Data("mitschnitt-stage: \(error)\n".utf8))
    exit(2)
}
FFmpegLibrary.quiet()
if isCheck {
    // For `mitschnitt doctor`: the codecs that stages need, each really opened.
    do {
        _ = try Encoder.h264(width: 64, height: 64, frameRate: 25, preset: "veryfast", constantRateFactor: 25, threads: 1)
        _ = (try Encoder.aac(channels: 1, bitrate: 64_000), try Encoder.opus(channels: 1, bitrate: 64_000), try Encoder.jpeg(width: 64, height: 64), try OpusDecoder(channels: 1))
        guard Decoder.missing.isEmpty else { throw FFmpegError("no decoder for " + Decoder.missing.map(\.rawValue).joined(separator: ", "), -1) }
        _ = try Resampler(rate: 8_000, channels: 1)
        print(FFmpegLibrary.versions + ", libx264, aac, libopus; reads " + CodedStream.Format.allCases.map(\.rawValue).joined(separator: ", "))
        exit(0)
    } catch {
        print(error)
        exit(3)
    }
}
let channel = StageChannel(socket: STDIN_FILENO)
if isLive { Live.run(channel) }
do {
    guard let (order, descriptors) = try channel.receiveOrder() else { exit(1) }
    // A parent that is gone is noticed when progress cannot be told: then there is nothing left to do.
    let result = Result { try StageRun.run(order, descriptors: descriptors) { share in
        do { try channel.send(.progress(share)) } catch { exit(1) }
    } }
    switch result {
    case .success(let result): try channel.send(.result(result))
    case .failure(let failure as StageFailure): try channel.send(.failure(failure))
    case .failure(let error): try channel.send(.failure(StageFailure(code: .library, what: "\(error)")))
    }
} catch {
    FileHandle.standardError.write(Data("mitschnitt-stage: \(error)\n".utf8))
    exit(1)
}
