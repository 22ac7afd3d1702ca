/// The parts of a tar archive of regular files (POSIX.1-1988 "ustar"): what GNU tar, bsdtar, Python, Windows and macOS read.
enum TarArchive {
    static let blockBytes = 512
    /// Two blocks of zeroes.
    static let end = [UInt8](repeating: 0, count: 2 * blockBytes)

    /// The block in front of a file. `name`: up to 100 bytes; `size` in bytes; `modified` in seconds since 1970.
    ///
    /// From 8 GiB on, where eleven octal digits end, the size is written in base 256 as GNU tar does.
    static func header(name: String, size: Int, modified: Int) -> [UInt8] {
        precondition(name.utf8.count <= 100 && size >= 0)
        var block = [UInt8](repeating: 0, count: blockBytes)
        func put(_ text: String, at place: Int) { for (offset, byte) in text.utf8.enumerated() { block[place + offset] = byte } }
        func octal(_ value: Int, digits: Int) -> String {
            let text = String(value, radix: 8)
            return String(repeating: "0", count: max(0, digits - text.count)) + text
        }
        put(name, at: 0)
        put(octal(0o600, digits: 7), at: 100)
        put(octal(0, digits: 7), at: 108)
        put(octal(0, digits: 7), at: 116)
        if size < 1 << 33 {
            put(octal(size, digits: 11), at: 124)
        } else {
            block[124] = 0x80
            for (offset, byte) in withUnsafeBytes(of: UInt64(size).bigEndian, Array.init).enumerated() { block[128 + offset] = byte }
        }
        put(octal(max(0, min(modified, 1 << 33 - 1)), digits: 11), at: 136)
        put("        0", at: 148)  // the checksum counts as blanks; then the type: a regular file
        put("ustar", at: 257)
        put("00", at: 263)
        let sum = block.reduce(0) { $0 + Int($1) }
        put(octal(sum, digits: 6) + "\0 ", at: 148)
        return block
    }

    /// The zeroes that fill a file's last block.
    static func padding(after size: Int) -> [UInt8] { [UInt8](repeating: 0, count: (blockBytes - size % blockBytes) % blockBytes) }
}
