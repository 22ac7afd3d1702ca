/// Why a sealed file or key cannot be used. Damage is told apart from a wrong key only where the format allows it.
public enum SealedFileError: Error, Hashable, Sendable {
    case badKeyLength(Int)
    /// The magic, version or suite is not ours.
    case notASealedFile(String)
    /// The key or the context is not the one that the file was sealed under (key commitment).
    case wrongKeyOrContext
    /// A chunk does not authenticate, is missing or is out of place.
    case damaged(chunk: Int)
    /// The last chunk is missing: the file was cut or never finished.
    case truncated
    /// A write outside the part that can still be changed.
    case alreadySealed(offset: Int)
    /// A system call failed; the text names it.
    case system(call: String, errno: Int32)
    /// The file grew beyond what a counter can hold.
    case tooLong
    case badRootKey(path: String, why: String, hint: String)
}

extension SealedFileError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .badKeyLength(let count): "a key has 32 bytes, not \(count)"
        case .notASealedFile(let why): "this is no sealed file: \(why)"
        case .wrongKeyOrContext: "the file was sealed under another key or for another place"
        case .damaged(let chunk): "chunk \(chunk) is damaged"
        case .truncated: "the end of the file is missing"
        case .alreadySealed(let offset): "byte \(offset) is sealed already and cannot be changed"
        case .system(let call, let code): "\(call) failed with errno \(code)"
        case .tooLong: "the file is too long"
        case .badRootKey(let path, let why, let hint): "the root key \(path) \(why); \(hint)"
        }
    }
}
