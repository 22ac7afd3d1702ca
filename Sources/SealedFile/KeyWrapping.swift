import Crypto
import Foundation
import Glibc

/// A key sealed under another one, bound to what it is for: swapped between ids, it does not open.
public struct WrappedKey: Hashable, Codable, Sendable {
    /// Nonce (12), ciphertext (32), tag (16): AES-256-GCM with a random nonce.
    public let bytes: Data

    public init(bytes: Data) { self.bytes = bytes }

    public init(_ key: DataKey, under parent: DataKey, id: String) {
        do {
            let box = try key.withBytes { try AES.GCM.seal($0, using: parent.wrapping, authenticating: Data(id.utf8)) }
            guard let combined = box.combined else { preconditionFailure("a 12-byte nonce always combines") }
            bytes = combined
        } catch {
            preconditionFailure("wrapping cannot fail with a 32-byte key: \(error)")
        }
    }

    /// Throws `.wrongKeyOrContext` for another parent, another id or damaged bytes.
    public func unwrapped(under parent: DataKey, id: String) throws(SealedFileError) -> DataKey {
        // Failing to authenticate is the answer; there is nothing more in the error.
        guard let box = try? AES.GCM.SealedBox(combined: bytes),
              var plain = try? AES.GCM.open(box, using: parent.wrapping, authenticating: Data(id.utf8))
        else { throw .wrongKeyOrContext }
        defer { plain.withUnsafeMutableBytes(wipe) }
        return try DataKey(bytes: plain)
    }
}

/// A few bytes sealed under a key, bound to what they are for.
public struct SealedSecret: Hashable, Sendable {
    /// Nonce (12), ciphertext, tag (16): AES-256-GCM with a random nonce.
    public let bytes: Data

    public init(bytes: Data) { self.bytes = bytes }

    public init(_ secret: Data, under key: DataKey, id: String) {
        do {
            guard let combined = try AES.GCM.seal(secret, using: key.sealing, authenticating: Data(id.utf8)).combined else { preconditionFailure("a 12-byte nonce always combines") }
            bytes = combined
        } catch {
            preconditionFailure("sealing cannot fail with a 32-byte key: \(error)")
        }
    }

    /// Throws `.wrongKeyOrContext` for another key, another id or damaged bytes.
    public func opened(under key: DataKey, id: String) throws(SealedFileError) -> Data {
        // As with a wrapped key: that it does not authenticate is all there is to say.
        guard let box = try? AES.GCM.SealedBox(combined: bytes), let plain = try? AES.GCM.open(box, using: key.sealing, authenticating: Data(id.utf8))
        else { throw .wrongKeyOrContext }
        return plain
    }
}

extension DataKey {
    fileprivate var sealing: SymmetricKey { derived(label: "mitschnitt/secret").symmetric }
    fileprivate var wrapping: SymmetricKey { derived(label: "mitschnitt/wrap").symmetric }
}
