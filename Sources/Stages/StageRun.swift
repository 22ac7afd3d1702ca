import FFmpeg
import Glibc
import Media
import PacketLog
import Renditions
import SealedFile

/// One order being carried out: its descriptors, and the ways to report. Confined to one thread.
public final class StageRun {
    let order: StageOrder
    private let descriptors: [Int32]
    private let report: (Double) -> Void
    private var told = 0.0
    /// Which part of the whole the shares are of that come: the work, then its verification.
    private var part = 0.0..<0.9
    private var expected: [(output: StageOutput, expectation: OutputExpectation)] = []

    /// Carries out `order`; `progress` gets shares 0...1 that never fall. Throws ``StageFailure``.
    public static func run(_ order: StageOrder, descriptors: [Int32], progress: @escaping (Double) -> Void) throws(StageFailure) -> StageResult {
        let run = StageRun(order, descriptors, progress)
        do {
            return try run.verified(run.work())
        } catch let failure as StageFailure {
            throw failure
        } catch let error as SealedFileError {
            switch error {
            case .system(_, ENOSPC), .system(_, EDQUOT): throw StageFailure(code: .outputFull, what: "the disk is full", hint: "free some space")
            case .system(_, EFBIG): throw StageFailure(code: .limitExceeded, what: "the result is larger than any of its kind should be", hint: "report it: the stage or its input is not right")
            case .system: throw StageFailure(code: .library, what: error.description, hint: "look into the machine's log: the disk may be failing")
            default: throw StageFailure(code: .damagedInput, what: error.description, hint: "the file on disk is not the one that was written: see the backup")
            }
        } catch {
            throw StageFailure(code: .library, what: "\(error)")
        }
    }

    private func work() throws -> StageResult {
        switch order.stage {
        case .depacketize:
            if case .file(let container, let kind, let start) = order.inputs.first?.content { return try remux(container, kind, start) }
            return try depacketize()
        case .mix: return try mix()
        case .compose, .composePart: return try compose()
        case .waveform: return try waveform()
        case .thumbnail: return try thumbnail()
        }
    }

    /// Notes what an output must turn out to be; once for each that is reported.
    func expect(_ output: StageOutput, _ expectation: OutputExpectation) { expected.append((output, expectation)) }

    /// The result with what each file was found to be.
    private func verified(_ result: StageResult) throws -> StageResult {
        precondition(expected.count == result.outputs.count, "every output says what it must turn out to be")
        var result = result
        for (place, entry) in expected.enumerated() {
            part = 0.9 + 0.1 * Double(place) / Double(expected.count)..<0.9 + 0.1 * Double(place + 1) / Double(expected.count)
            let verification = Verification(output: entry.output, descriptor: try descriptor(entry.output.descriptor), bytes: result.outputs[place].bytes, threads: order.parameters.threads) { [self] in progress($0) }
            result.outputs[place].verified = try verification.check(entry.expectation)
        }
        return result
    }

    private init(_ order: StageOrder, _ descriptors: [Int32], _ report: @escaping (Double) -> Void) {
        self.order = order
        self.descriptors = descriptors
        self.report = report
    }

    /// A share 0...1 of the work at hand.
    func progress(_ done: Double) {
        let share = part.lowerBound + min(max(done, 0), 1) * (part.upperBound - part.lowerBound)
        guard share - told >= 0.01 || share >= 1 && told < 1 else { return }
        told = min(1, share)
        report(told)
    }

    func descriptor(_ place: Int) throws(StageFailure) -> Int32 {
        guard descriptors.indices.contains(place) else { throw StageFailure(code: .protocolViolation, what: "descriptor \(place) was not handed over") }
        return descriptors[place]
    }

    func descriptors(of input: StageInput) throws(StageFailure) -> [Int32] {
        var all: [Int32] = []
        for place in input.descriptors { all.append(try descriptor(place)) }
        return all
    }

    func sink(_ output: StageOutput, windowBytes: Int) throws -> SealedSink {
        try SealedSink(descriptor: descriptor(output.descriptor), key: output.key, context: output.context, windowBytes: windowBytes)
    }

    func source(_ input: StageInput, _ context: SealedContext) throws -> SealedSource {
        guard let place = input.descriptors.first else { throw StageFailure(code: .protocolViolation, what: "an input without a descriptor") }
        return try SealedSource(descriptor: descriptor(place), key: input.key, context: context)
    }

    func span() throws(StageFailure) -> WallSpan {
        guard let span = order.span, span.duration > .zero else { throw StageFailure(code: .nothingToDo, what: "there is no time to fill") }
        guard span.duration <= .seconds(24 * 3600) else {
            throw StageFailure(code: .limitExceeded, what: "the recording spans more than a day", hint: "check the times of its packets")
        }
        return span
    }

    func output() throws(StageFailure) -> StageOutput {
        guard let output = order.outputs.first, order.outputs.count == 1 else { throw StageFailure(code: .protocolViolation, what: "this stage has one output") }
        return output
    }

    /// Of a track's file, which nobody waits for the hash of: it is taken when the file is erased.
    static func report(track sink: SealedSink, start: WallTime, duration: Nanoseconds) throws -> OutputReport {
        try sink.writer.close()
        return OutputReport(bytes: Int64(sink.position), ciphertextSHA256: nil, startWall: start, duration: duration)
    }

    static func report(_ digest: SealedDigest, start: WallTime, duration: Nanoseconds, frames: Int? = nil, width: Int? = nil, height: Int? = nil,
                       loudness: Double? = nil) -> OutputReport {
        OutputReport(bytes: Int64(digest.plaintextBytes), ciphertextSHA256: digest.ciphertextSHA256, startWall: start, duration: duration, videoFrames: frames,
                     width: width, height: height, loudnessLUFS: loudness)
    }
}
