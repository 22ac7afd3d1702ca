import Crypto
import Foundation
import Media

/// Everything that decides the bytes of a stage's outputs. Two runs with the same fingerprint give the same outputs, so that the second need not
/// run: same inputs, same parameters, same versions.
public struct Ingredients: Codable, Sendable {
    /// ``StageRunner/version()``.
    public var version: String
    public var stage: StageKind
    public var parameters: StageParameters
    public var outputs: [Pipeline.Output]
    public var purpose: Purpose
    public var span: WallSpan?
    public var inputs: [Source]
    /// Of a picture in parts: which one, and of how many. Both nil for everything else, the first nil for all parts together.
    public var part: Int?
    public var parts: Int?

    public enum Source: Codable, Sendable {
        /// A track's file is made once: its id, its length and what was found out about it stand for its bytes.
        case track(id: TrackID, bytes: Int64, summary: TrackSummary, people: [String], label: String?)
        /// Another stage's output, by its own fingerprint.
        case rendition(fingerprint: String, output: String, start: WallTime)
    }

    public init(version: String, stage: StageKind, parameters: StageParameters, outputs: [Pipeline.Output], purpose: Purpose, span: WallSpan?, inputs: [Source]) {
        self.version = version
        self.stage = stage
        self.parameters = parameters
        self.outputs = outputs
        self.purpose = purpose
        self.span = span
        self.inputs = inputs
    }

    /// SHA-256 over their canonical JSON, hexadecimal.
    public var fingerprint: String { SHA256.hash(data: JSONOutput.bytes(self)).map { String(format: "%02x", $0) }.joined() }
}
