/// A fuzzer's bytes, taken from the front; zeros when there are none left.
struct Input {
    private var left: UnsafeRawBufferPointer

    init(_ start: UnsafePointer<UInt8>?, _ count: Int) { left = UnsafeRawBufferPointer(start: start, count: count) }

    var isEmpty: Bool { left.isEmpty }
    var rest: [UInt8] { Array(left) }

    mutating func byte() -> UInt8 {
        guard let byte = left.first else { return 0 }
        left = UnsafeRawBufferPointer(rebasing: left.dropFirst())
        return byte
    }

    mutating func word() -> UInt16 { UInt16(byte()) << 8 | UInt16(byte()) }

    /// So many bytes as its first two say, or as there are. An array of its own: the sanitizer sees each byte read beyond it.
    mutating func block() -> [UInt8] {
        let length = Int(word())
        let bytes = Array(left.prefix(length))
        left = UnsafeRawBufferPointer(rebasing: left.dropFirst(bytes.count))
        return bytes
    }
}
