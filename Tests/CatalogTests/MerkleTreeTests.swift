@testable import Catalog
import Crypto
import Foundation
import SealedFile
import Testing

@Suite("Merkle tree (RFC 9162 section 2.1)")
struct MerkleTreeTests {
    /// The inputs and roots that Certificate Transparency's implementations test each other with.
    static let inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"].map { Hexadecimal.bytes($0)! }
    static let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    static var leaves: [AuditHash] { inputs.map { MerkleTree.leaf($0) } }

    @Test("known answers: roots, paths and consistency proofs of trees of up to eight leaves")
    func known() {
        #expect((0...8).map { MerkleTree.root(Self.leaves.prefix($0)).hex } == Self.roots)
        func begins(_ path: [AuditHash]) -> [String] { path.map { String($0.hex.prefix(16)) } }
        #expect(begins(MerkleTree.inclusionPath(0, Self.leaves[...])) == ["96a296d224f285c6", "5f083f0a1a33ca07", "6b47aaf29ee3c2af"])
        #expect(begins(MerkleTree.inclusionPath(5, Self.leaves[...])) == ["bc1a0643b12e4d2d", "ca854ea128ed050b", "d37ee418976dd957"])
        #expect(begins(MerkleTree.inclusionPath(2, Self.leaves.prefix(3))) == ["fac54203e7cc696c"])
        #expect(begins(MerkleTree.inclusionPath(1, Self.leaves.prefix(5))) == ["6e340b9cffb37a98", "5f083f0a1a33ca07", "bc1a0643b12e4d2d"])
        #expect(begins(MerkleTree.consistencyPath(1, Self.leaves[...])) == ["96a296d224f285c6", "5f083f0a1a33ca07", "6b47aaf29ee3c2af"])
        #expect(begins(MerkleTree.consistencyPath(6, Self.leaves[...])) == ["0ebc5d3437fbe2db", "ca854ea128ed050b", "d37ee418976dd957"])
        #expect(begins(MerkleTree.consistencyPath(2, Self.leaves.prefix(5))) == ["5f083f0a1a33ca07", "bc1a0643b12e4d2d"])
    }

    /// The definition of section 2.1.1, word for word.
    private func definition(_ leaves: ArraySlice<AuditHash>) -> AuditHash {
        if leaves.count == 1 { return leaves.first! }
        var k = 1
        while k * 2 < leaves.count { k *= 2 }
        return AuditHash(SHA256.hash(data: [1] + definition(leaves.prefix(k)).bytes + definition(leaves.dropFirst(k)).bytes))
    }

    @Test("every proof of every tree of up to 40 leaves holds, and no changed one does")
    func all() {
        let leaves = (0..<40).map { MerkleTree.leaf([UInt8($0)]) }
        let other = MerkleTree.leaf([99])
        var frontier = MerkleFrontier()
        for size in 1...leaves.count {
            let tree = leaves.prefix(size)
            let root = definition(tree)
            let pathOfNext = frontier.pathOfNext
            frontier.append(leaves[size - 1])
            #expect(frontier.root == root && MerkleTree.root(tree) == root)
            #expect(pathOfNext == MerkleTree.inclusionPath(size - 1, tree))
            for index in 0..<size {
                let path = MerkleTree.inclusionPath(index, tree)
                #expect(MerkleTree.root(leaf: leaves[index], index: index, size: size, path: path) == root)
                #expect(MerkleTree.root(leaf: other, index: index, size: size, path: path) != root)
                #expect(MerkleTree.root(leaf: leaves[index], index: index, size: size, path: path + [other]) == nil)
                if !path.isEmpty { #expect(MerkleTree.root(leaf: leaves[index], index: index, size: size, path: path.dropLast()) != root) }
                if size > 1 { #expect(MerkleTree.root(leaf: leaves[index], index: (index + 1) % size, size: size, path: path) != root) }
            }
            for first in 1...size {
                let (old, path) = (definition(leaves.prefix(first)), MerkleTree.consistencyPath(first, tree))
                #expect(MerkleTree.isConsistent(old, firstSize: first, root, secondSize: size, path: path))
                #expect(!MerkleTree.isConsistent(other, firstSize: first, root, secondSize: size, path: path))
                #expect(!MerkleTree.isConsistent(old, firstSize: first, other, secondSize: size, path: path))
                #expect(!MerkleTree.isConsistent(old, firstSize: first, root, secondSize: size, path: path + [other]))
                for place in path.indices {
                    var bent = path
                    bent[place] = other
                    #expect(!MerkleTree.isConsistent(old, firstSize: first, root, secondSize: size, path: bent))
                }
            }
        }
    }

    @Test("sizes and paths from outside never trap")
    func hostile() {
        let hash = MerkleTree.leaf([1])
        let long = [AuditHash](repeating: hash, count: 70)
        for index in [Int.min, -1, 0, 1, Int.max - 1, Int.max] {
            for size in [Int.min, 0, 1, 2, Int.max] {
                for path in [[], [hash], Array(long.prefix(62)), long] {
                    if MerkleTree.root(leaf: hash, index: index, size: size, path: path) != nil { #expect(index >= 0 && index < size) }
                    if MerkleTree.isConsistent(hash, firstSize: index, hash, secondSize: size, path: path) { #expect(index == size && path.isEmpty) }
                }
            }
        }
        #expect(MerkleFrontier(size: -1, peaks: []) == nil && MerkleFrontier(size: 3, peaks: [hash]) == nil)
    }

    @Test("a signed note of another program is read and believed, and no other is")
    func note() throws {
        // From the documentation of Go's package golang.org/x/mod/sumdb/note.
        let key = try #require(VerifierKey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"))
        let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
            + "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
        let note = try #require(SignedNote(text))
        #expect(note.isSigned(by: key) && note.whole == text)
        let signer = NoteSigner(name: "PeterNeumann", seed: .random())
        #expect(!note.isSigned(by: signer.verifier))
        #expect(signer.sign("a\n").isSigned(by: signer.verifier) && !signer.sign("a\n").isSigned(by: key))
        #expect(VerifierKey(signer.verifier.text) == signer.verifier)
        for bad in ["", "PeterNeumann", "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "a b+c74f20a3+AR", "+++"] { #expect(VerifierKey(bad) == nil) }
    }
}
