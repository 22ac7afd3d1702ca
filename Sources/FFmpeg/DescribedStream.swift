import CFFmpeg

/// A coded stream as a demuxer would describe it, for packets that come out of no container.
public final class DescribedStream {
    private let parameters: UnsafeMutablePointer<AVCodecParameters>
    /// Good for as long as this object is.
    public let stream: Demuxer.Stream

    public init(_ coded: CodedStream, timeBase: Rational) {
        guard let made = avcodec_parameters_alloc() else { fatalError("out of memory") }
        coded.describe(made)
        parameters = made
        stream = Demuxer.Stream(index: 0, timeBase: timeBase, isAudio: coded.format.isAudio, isVideo: !coded.format.isAudio, parameters: made)
    }

    deinit {
        var pointer: UnsafeMutablePointer<AVCodecParameters>? = parameters
        avcodec_parameters_free(&pointer)
    }
}
