/// A numeric IP address: 16 bytes, IPv4 as ::ffff:a.b.c.d. Held without allocation: it is compared for each packet.
public struct IPAddress: Hashable, Sendable {
    private var high: UInt64 = 0
    private var low: UInt64 = 0

    /// Takes up to 16 bytes, the most significant first; missing ones are zero.
    public init(bytes: some Sequence<UInt8>) {
        withUnsafeMutableBytes(of: &self) { own in
            for (place, byte) in bytes.prefix(16).enumerated() { own[place] = byte }
        }
    }

    public var bytes: [UInt8] { withUnsafeBytes(of: self, Array.init) }
}
