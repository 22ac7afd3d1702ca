import Foundation
import SealedFile
import TestSupport
import Testing

@Suite("Where the root key comes from")
struct RootKeySourceTests {
    let folder: TemporaryFolder
    let key = DataKey.random()
    private var file: String { folder.path + "/root.key" }
    private var credential: String { folder.path + "/" + RootKeySource.credentialName }
    private var base64: String { key.withBytes { Data($0) }.base64EncodedString() }
    private var hex: String { key.withBytes { Hexadecimal.text($0) } }

    init() throws { folder = try TemporaryFolder() }

    private func find(_ environment: [String: String]) throws -> (same: Bool, source: RootKeySource)? {
        try RootKey.find(file: file, environment: environment).map { ($0.key.withBytes { Array($0) } == key.withBytes { Array($0) }, $0.source) }
    }

    private func put(_ path: String, _ data: Data) { #expect(FileManager.default.createFile(atPath: path, contents: data, attributes: [.posixPermissions: 0o600])) }

    @Test("credential before environment before file; each in the forms it may have")
    func order() throws {
        #expect(try find([:]) == nil)
        put(file, key.withBytes { Data($0) })
        #expect(try find([:])! == (true, .file(file)))
        for text in [base64, hex, hex.uppercased(), base64 + "\n"] { #expect(try find([RootKeySource.variable: text])! == (true, .environment)) }
        for data in [key.withBytes { Data($0) }, Data((base64 + "\n").utf8), Data(hex.utf8)] {
            try? FileManager.default.removeItem(atPath: credential)  // none at first
            put(credential, data)
            #expect(try find([RootKeySource.variable: base64, "CREDENTIALS_DIRECTORY": folder.path])! == (true, .credential(credential)))
        }
    }

    @Test("two keys that differ are refused, whichever would have come first")
    func differing() throws {
        put(file, Data(repeating: 1, count: 32))
        #expect(throws: SealedFileError.self) { try find([RootKeySource.variable: base64]) }
        put(credential, Data(repeating: 2, count: 32))
        #expect(throws: SealedFileError.self) { try find(["CREDENTIALS_DIRECTORY": folder.path]) }
    }

    @Test("what is no key is refused and not shown", arguments: ["", "abc", "00", String(repeating: "z", count: 64), String(repeating: "0", count: 62), "AAAA"])
    func bad(text: String) throws {
        #expect { try find([RootKeySource.variable: text]) } throws: { error in text.count < 4 || !"\(error)".contains(text) }
        put(credential, Data(text.utf8))
        #expect(throws: SealedFileError.self) { try find(["CREDENTIALS_DIRECTORY": folder.path]) }
    }

    @Test("a shredded key file is gone, an overwritten one holds zeroes")
    func shred() throws {
        put(file, key.withBytes { Data($0) })
        try RootKey.overwrite(path: file)
        #expect(try Data(contentsOf: URL(filePath: file)) == Data(count: 32))
        try RootKey.shred(path: file)
        #expect(!FileManager.default.fileExists(atPath: file))
    }
}
