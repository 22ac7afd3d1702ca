import Depacketize
import FFmpeg
import Media

extension CodedStream.Format {
    /// By RTP encoding name (RFC 3551, and the codecs' own payload formats).
    static let byName: [String: Self] = [
        "opus": .opus, "pcmu": .mulaw, "pcma": .alaw, "g722": .g722, "l16": .pcm16,
        "vp8": .vp8, "vp9": .vp9, "h264": .h264, "h265": .h265, "av1": .av1,
    ]
}

extension CodedStream {
    /// The stream that begins with `unit`; nil where it cannot begin there: no key unit, no usable parameter
    /// sets, or a codec that no track has.
    init?(_ unit: AccessUnit) {
        guard unit.isKey, let format = Format.byName[unit.codec.name] else { return nil }
        if format.isAudio {
            // G.722 counts 8 000 for the 16 000 samples that it has (RFC 3551 section 4.5.2).
            self.init(format, sampleRate: format == .g722 ? 16_000 : unit.codec.clockRate, channels: max(1, unit.codec.channels))
            return
        }
        let configuration = unit.payload.withUnsafeBytes { bytes -> [UInt8]? in
            switch format {
            case .h264: ParameterSets.annexB(bytes, wanted: [7, 8, 13], pictures: 1...5) { Int($0 & 0x1F) }
            case .h265: ParameterSets.annexB(bytes, wanted: [32, 33, 34], pictures: 0...31) { Int($0 >> 1 & 0x3F) }
            case .av1: ParameterSets.sequenceHeader(bytes)
            default: []
            }
        }
        guard let configuration else { return nil }
        // A size that nobody told is no reason to lose the track: decoders read it from the pictures.
        self.init(format, width: unit.width ?? 640, height: unit.height ?? 480, configuration: configuration)
        guard configuration.isEmpty || Muxer.accepts(self, in: .matroska) else { return nil }
    }
}

/// What a decoder needs to know before the first picture, looked up in a key unit.
enum ParameterSets {
    /// The wanted NAL units, each with a start code, out of those in front of the first picture; nil without any.
    static func annexB(_ bytes: UnsafeRawBufferPointer, wanted: Set<Int>, pictures: ClosedRange<Int>, type: (UInt8) -> Int) -> [UInt8]? {
        var found: [UInt8] = []
        var begin = startCode(bytes, from: 0)
        while let place = begin, place < bytes.count {
            let kind = type(bytes[place])
            guard !pictures.contains(kind) else { break }
            let next = startCode(bytes, from: place)
            if wanted.contains(kind) {
                var end = next.map { $0 - 3 } ?? bytes.count
                while end > place, bytes[end - 1] == 0 { end -= 1 }  // zeroes before a start code belong to it
                found += [0, 0, 0, 1] + bytes[place..<end]
            }
            begin = next
        }
        return found.isEmpty ? nil : found
    }

    /// The place behind the next start code.
    private static func startCode(_ bytes: UnsafeRawBufferPointer, from: Int) -> Int? {
        var place = from
        while place + 3 <= bytes.count {
            if bytes[place] == 0, bytes[place + 1] == 0, bytes[place + 2] == 1 { return place + 3 }
            place += 1
        }
        return nil
    }

    /// The sequence header OBU (AV1 section 5.3, each OBU with its size); nil without one.
    static func sequenceHeader(_ bytes: UnsafeRawBufferPointer) -> [UInt8]? {
        var place = 0
        while place < bytes.count {
            let (begin, head) = (place, bytes[place])
            guard head & 0x02 != 0 else { return nil }
            place += head & 0x04 != 0 ? 2 : 1
            var size = 0
            for shift in 0..<5 {
                guard place < bytes.count else { return nil }
                let byte = bytes[place]
                size |= Int(byte & 0x7F) << (7 * shift)
                place += 1
                if byte & 0x80 == 0 { break }
            }
            guard size <= bytes.count - place else { return nil }
            place += size
            if head >> 3 & 0x0F == 1 { return Array(bytes[begin..<place]) }
        }
        return nil
    }
}
