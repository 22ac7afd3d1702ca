/// Sources that belong together (`a=ssrc-group`, RFC 5576 section 4.2).
public struct SSRCGroup: Hashable, Sendable {
    /// `FID`: media and its retransmission; `SIM`: layers, lowest first; `FEC`, `FEC-FR`: media and its repair.
    public var semantics: String
    public var ssrcs: [SSRC]
    public static let ssrcsMax = 16

    public init(semantics: String, ssrcs: [SSRC]) {
        self.semantics = semantics
        self.ssrcs = ssrcs
    }

    /// `FID 1 2`; nil with a word that is no SSRC.
    init?(_ value: Substring) {
        let words = value.split(separator: " ")
        guard (2...Self.ssrcsMax + 1).contains(words.count) else { return nil }
        (semantics, ssrcs) = (words[0].uppercased(), [])
        for word in words.dropFirst() {
            guard let id = UInt32(word) else { return nil }
            ssrcs.append(SSRC(rawValue: id))
        }
    }
}

/// One encoding of a source (`a=rid`, RFC 8851 section 4).
public struct RestrictionID: Hashable, Sendable {
    public enum Direction: String, Hashable, Sendable { case send, recv }

    public var id: String
    public var direction: Direction
    /// `pt=`; empty: any of the m-line.
    public var payloadTypes: [UInt8]
    /// The rest, as it stands there: `max-width=1280;max-fps=30`.
    public var restrictions: String

    public init(id: String, direction: Direction, payloadTypes: [UInt8] = [], restrictions: String = "") {
        self.id = id
        self.direction = direction
        self.payloadTypes = payloadTypes
        self.restrictions = restrictions
    }

    /// `1 send pt=96;max-width=1280`; nil where it is none.
    init?(_ value: Substring) {
        let words = value.split(separator: " ", maxSplits: 2)
        guard words.count >= 2, let direction = Direction(rawValue: String(words[1])), Self.isID(words[0]) else { return nil }
        var (types, others): ([UInt8], [Substring]) = ([], [])
        for restriction in words.count > 2 ? words[2].split(separator: ";") : [] {
            if restriction.hasPrefix("pt=") {
                types = restriction.dropFirst(3).split(separator: ",").compactMap { UInt8($0) }.filter { $0 < 128 }
            } else {
                others.append(restriction)
            }
        }
        self.init(id: String(words[0]), direction: direction, payloadTypes: types, restrictions: others.joined(separator: ";"))
    }

    static func isID(_ text: Substring) -> Bool {
        (1...255).contains(text.utf8.count) && text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                 UInt8(ascii: "-"), UInt8(ascii: "_"): true
            default: false
            }
        }
    }
}

/// Which encodings are sent or received side by side (`a=simulcast`, RFC 8853 section 5.1).
public struct Simulcast: Hashable, Sendable {
    public static let streamsMax = 16

    /// One of an encoding's alternatives.
    public struct Alternative: Hashable, Sendable {
        public var rid: String
        /// `~`: not sent at first.
        public var isPaused: Bool

        public init(rid: String, isPaused: Bool = false) {
            self.rid = rid
            self.isPaused = isPaused
        }
    }

    /// Each stream's alternatives, in the order of preference.
    public var send: [[Alternative]]
    public var receive: [[Alternative]]

    public init(send: [[Alternative]] = [], receive: [[Alternative]] = []) {
        self.send = send
        self.receive = receive
    }

    /// `send 1,2;~3 recv 4`; nil where it is none.
    init?(_ value: Substring) {
        self.init()
        let words = value.split(separator: " ")
        guard words.count == 2 || words.count == 4 else { return nil }
        for place in stride(from: 0, to: words.count, by: 2) {
            var streams: [[Alternative]] = []
            for stream in words[place + 1].split(separator: ";").prefix(Self.streamsMax) {
                let alternatives = stream.split(separator: ",").prefix(Self.streamsMax).map { text in
                    (id: text.hasPrefix("~") ? text.dropFirst() : text, isPaused: text.hasPrefix("~"))
                }
                guard !alternatives.isEmpty, alternatives.allSatisfy({ RestrictionID.isID($0.id) }) else { return nil }
                streams.append(alternatives.map { Alternative(rid: String($0.id), isPaused: $0.isPaused) })
            }
            switch words[place] {
            case "send": send = streams
            case "recv": receive = streams
            default: return nil
            }
        }
    }
}
