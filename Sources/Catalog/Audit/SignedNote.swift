import Crypto
import Foundation
import SealedFile

/// Whose signatures under a checkpoint are believed: a name and an Ed25519 public key.
///
/// Written as `NAME+ID+KEY`: ID is the first four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key) in hexadecimal, KEY is base64 of 0x01 ‖ key.
/// That and the note below are the signed notes of transparency logs (C2SP signed-note), so that other programs can check them, too.
public struct VerifierKey: Hashable, Sendable {
    public let name: String
    public let publicKey: Data

    init(name: String, publicKey: Data) { (self.name, self.publicKey) = (name, publicKey) }

    /// Takes `NAME+ID+KEY`; nil where anything in it does not fit.
    public init?(_ text: String) {
        let parts = text.split(separator: "+", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, let key = Data(base64Encoded: String(parts[2])), key.count == 33, key.first == 1 else { return nil }
        self.init(name: String(parts[0]), publicKey: key.dropFirst())
        guard SignedNote.isName(name), Array(self.text.utf8) == Array(text.utf8) else { return nil }
    }

    var id: Data { Data(SHA256.hash(data: Data(name.utf8) + [0x0A, 0x01] + publicKey).prefix(4)) }

    public var text: String { "\(name)+\(Hexadecimal.text(id))+\((Data([1]) + publicKey).base64EncodedString())" }

    func signed(_ text: String, _ signature: Data) -> Bool {
        guard let key = try? Curve25519.Signing.PublicKey(rawRepresentation: publicKey) else { return false }  // no point of the curve: signed nothing
        return key.isValidSignature(signature, for: Data(text.utf8))
    }
}

/// Signs checkpoints.
public struct NoteSigner: Sendable {
    public let verifier: VerifierKey
    private let key: Curve25519.Signing.PrivateKey

    /// `seed`: the 32 bytes of an Ed25519 private key (RFC 8032 section 5.1.5).
    public init(name: String, seed: DataKey) {
        do {
            key = try seed.withBytes { try Curve25519.Signing.PrivateKey(rawRepresentation: $0) }
        } catch {
            preconditionFailure("any 32 bytes are an Ed25519 private key: \(error)")
        }
        verifier = VerifierKey(name: name, publicKey: key.publicKey.rawRepresentation)
    }

    /// `text` ends with a newline.
    public func sign(_ text: String) -> SignedNote {
        guard let signature = try? key.signature(for: Data(text.utf8)) else { preconditionFailure("Ed25519 signs anything") }
        return SignedNote(text: text, name: verifier.name, keyID: verifier.id, signature: signature)
    }
}

/// A text, a blank line, and the line `— NAME BASE64(key id ‖ signature)`.
public struct SignedNote: Hashable, Sendable {
    public let text: String
    public let name: String
    let keyID: Data
    let signature: Data

    static func isName(_ name: String) -> Bool { !name.isEmpty && !name.utf8.contains { $0 <= 0x20 || $0 == 0x2B || $0 == 0x7F } }

    init(text: String, name: String, keyID: Data, signature: Data) { (self.text, self.name, self.keyID, self.signature) = (text, name, keyID, signature) }

    /// Reads a note with one signature; nil where a byte of it is out of place. Whether it is right is asked with ``isSigned(by:)``.
    public init?(_ whole: String) {
        guard whole.utf8.count <= 1 << 16, let blank = whole.range(of: "\n\n— ", options: .backwards) else { return nil }
        let text = String(whole[..<whole.index(after: blank.lowerBound)])
        let line = whole[blank.upperBound...].split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
        guard line.count == 2, line[1].hasSuffix("\n"), let data = Data(base64Encoded: String(line[1].dropLast())), data.count == 68 else { return nil }
        self.init(text: text, name: String(line[0]), keyID: Data(data.prefix(4)), signature: Data(data.suffix(64)))
        guard Self.isName(name), Array(self.whole.utf8) == Array(whole.utf8) else { return nil }
    }

    public var whole: String { "\(text)\n— \(name) \((keyID + signature).base64EncodedString())\n" }

    public func isSigned(by key: VerifierKey) -> Bool { key.name == name && key.id == keyID && key.signed(text, signature) }
}
