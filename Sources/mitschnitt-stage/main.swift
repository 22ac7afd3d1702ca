import CLinux
import Foundation
import FFmpeg
import Glibc
import Renditions
import Stages

// One media stage: one process, one job. The order, the descriptors and the keys come over standard input, which is a socket; progress
// and the result go back over it. Exit status: 0 answered (the answer may be a failure), 1 nobody to answer to, 2 not confined.

/// Memory that a stage may map: pictures, encoder look-ahead and the head of a day's MP4 fit many times.
let addressSpaceBytes: UInt = 6 << 30

signal(SIGPIPE, SIG_IGN)
guard clinux_confine_stage(addressSpaceBytes) == 0 else {
    FileHandle.standardError.write(Data("mitschnitt-stage cannot limit itself: errno \(errno)\n".utf8))
    exit(2)
}
FFmpegLibrary.quiet()
if CommandLine.arguments.dropFirst().first == "--check" {
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
if CommandLine.arguments.dropFirst().first == "--live" {
    // Renders a recording that still runs, behind everything else: what is not done at its end is done by its jobs.
    if clinux_run_behind() != 0 { FileHandle.standardError.write(Data("mitschnitt-stage runs at full priority: errno \(errno)\n".utf8)) }
    do {
        guard let (order, descriptors) = try channel.receiveLiveOrder() else { exit(1) }
        let rendering = try LiveRendering(order, descriptors: descriptors) { try channel.send($0) }
        while true {
            // Pictures take what time there is between two pieces of what is recorded.
            if !channel.hasInput, try rendering.work() { continue }
            guard let (feed, descriptors) = try channel.receiveFeed() else { exit(1) }
            guard try rendering.take(feed, descriptors) else { exit(0) }
        }
    } catch let failure as StageFailure {
        try? channel.send(.trouble(failure.what))  // nobody to tell it to is no other end
    } catch {
        try? channel.send(.trouble("\(error)"))
    }
    exit(0)
}
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
