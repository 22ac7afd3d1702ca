import Crypto
import Foundation
import Subprocess
import SystemPackage

extension StageRunner {
    /// What carries stages out, to the byte: the digest of the program, and the libraries that it finds on this machine. It changes with every
    /// update of either, without anybody having to remember to raise a number.
    ///
    /// Takes some 100 ms: ask once. Throws ``StageRunError``.
    public func version() async throws -> String {
        guard !isSubstitute else { return "substitute" }
        let path = executable
        let digest = try await BlockingWork.run {
            let file: Data
            do { file = try Data(contentsOf: URL(filePath: path), options: .alwaysMapped) } catch { throw StageRunError.notStarted("\(path): \(error.localizedDescription)") }
            return SHA256.hash(data: file).map { String(format: "%02x", $0) }.joined()
        }
        let libraries: String
        do {
            let ended = try await Subprocess.run(.path(FilePath(path)), arguments: ["--version"], environment: .custom(["LC_ALL": "C.UTF-8"]), output: .string(limit: 4_096), error: .discarded)
            guard ended.terminationStatus.isSuccess else { throw StageRunError.notStarted("\(path) --version: \(ended.terminationStatus)") }
            libraries = ended.standardOutput.trimmingCharacters(in: .whitespacesAndNewlines)
        } catch let error as StageRunError {
            throw error
        } catch {
            throw StageRunError.notStarted("\(path): \(error)")
        }
        return "\(digest); \(libraries)"
    }
}
