import Crypto
import Foundation
import Media
import Yams

extension Pipeline {
    /// Longest pipeline file in bytes.
    public static let fileBytesMax = 256 << 10

    /// Reads a pipeline file.
    ///
    /// Throws ``PipelineError`` with line and column at the first fault: YAML that does not parse, an unknown key, stage, container
    /// or parameter, a value out of range, an input that nothing makes, a cycle.
    public init(parsing text: String) throws(PipelineError) {
        guard text.utf8.count <= Self.fileBytesMax else {
            throw PipelineError(line: 0, column: 0, what: "the file is longer than \(Self.fileBytesMax) bytes")
        }
        digest = SHA256.hash(data: Data(text.utf8)).map { String(format: "%02x", $0) }.joined()
        let root = try Self.node(text)
        let top = try Fields(root, allowed: ["name", "description", "purpose", "stages"])
        name = try top.string("name")
        let purpose = try top.optional("purpose").map(Self.purpose) ?? .shareWithParticipants
        self.purpose = purpose
        let listed = try top.required("stages").fields()
        guard (1...Self.stagesMax).contains(listed.entries.count) else {
            throw listed.fault("\(listed.entries.count) stages", "a pipeline has 1 to \(Self.stagesMax)")
        }
        var read: [(stage: Stage, at: Value)] = []
        for entry in listed.entries { read.append((try Self.stage(entry), entry.value)) }
        stages = try Self.ordered(read, purpose)
    }

    private static func purpose(_ value: Value) throws(PipelineError) -> Purpose {
        guard let purpose = Purpose(rawValue: value.text) else {
            throw value.fault("unknown purpose '\(value.text)'", "one of: " + Purpose.allCases.map(\.rawValue).joined(separator: ", "))
        }
        return purpose
    }

    private static func node(_ text: String) throws(PipelineError) -> Node {
        do {
            guard let node = try Yams.compose(yaml: text) else {
                throw PipelineError(line: 1, column: 1, what: "the file is empty", hint: "see Pipelines/meeting.yaml")
            }
            return node
        } catch let error as PipelineError {
            throw error
        } catch let error as YamlError {
            switch error {
            case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _):
                throw PipelineError(line: mark.line, column: mark.column, what: "not YAML: \(problem)", hint: context?.text)
            case .duplicatedKeysInMapping(let duplicates, let context):
                throw PipelineError(line: context.mark.line, column: context.mark.column, what: "keys given twice: \(duplicates)")
            default:
                throw PipelineError(line: 0, column: 0, what: "not YAML: \(error)")
            }
        } catch {
            throw PipelineError(line: 0, column: 0, what: "not YAML: \(error)")
        }
    }

    private static func stage(_ entry: Entry) throws(PipelineError) -> Stage {
        let fields = try Fields(entry.value.node, allowed: ["stage", "when", "inputs", "outputs", "parameters"])
        let kindName = try fields.required("stage")
        guard let kind = StageKind.inPipelines.first(where: { $0.rawValue == kindName.text }) else {
            throw kindName.fault("unknown stage '\(kindName.text)'", "one of: " + StageKind.inPipelines.map(\.rawValue).joined(separator: ", "))
        }
        guard let first = entry.key.first, first.isLetter, entry.key.allSatisfy({ $0.isLetter || $0.isNumber || $0 == "-" || $0 == "_" }) else {
            throw entry.keyFault("'\(entry.key)' is no name for a stage", "letters, digits, - and _, starting with a letter")
        }
        return Stage(name: entry.key, kind: kind, inputs: try inputs(kind, fields), outputs: try outputs(kind, fields),
                     parameters: try parameters(kind, fields), condition: try condition(kind, fields))
    }

    private static func condition(_ kind: StageKind, _ fields: Fields) throws(PipelineError) -> Condition {
        guard let given = try fields.optional("when") else { return Condition() }
        guard kind != .depacketize else { throw given.fault("depacketize takes no condition", "every track is kept in its own format, for the person's own copy") }
        let entries = try Fields(given.node, allowed: ["has", "purpose"])
        var condition = Condition()
        if let has = try entries.optional("has") {
            let kinds = has.node.sequence == nil ? [has] : try has.items()
            for item in kinds {
                guard let kind = MediaKind(rawValue: item.text) else {
                    throw item.fault("unknown kind '\(item.text)'", "one of: " + MediaKind.allCases.map(\.rawValue).joined(separator: ", "))
                }
                condition.has.insert(kind)
            }
        }
        condition.purpose = try entries.optional("purpose").map(purpose)
        return condition
    }

    private static func inputs(_ kind: StageKind, _ fields: Fields) throws(PipelineError) -> [Input] {
        guard kind != .depacketize else {
            if let given = try fields.optional("inputs") { throw given.fault("depacketize takes no inputs", "it reads the packet log of every track") }
            return []
        }
        var inputs: [Input] = []
        for item in try fields.required("inputs").items() {
            let parts = item.text.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else {
                throw item.fault("'\(item.text)' is no input", "STAGE.KIND for tracks (tracks.audio), STAGE.OUTPUT otherwise (mix.sound)")
            }
            // Which of the two it is shows when the stages are put in order; a kind is taken for tracks first.
            inputs.append(MediaKind(rawValue: parts[1]).map { .tracks(stage: parts[0], kind: $0) } ?? .output(stage: parts[0], name: parts[1]))
        }
        return inputs
    }

    private static func outputs(_ kind: StageKind, _ fields: Fields) throws(PipelineError) -> [Output] {
        guard kind != .depacketize else { return [Output(name: "track", container: .matroska)] }
        var outputs: [Output] = []
        for entry in try fields.required("outputs").fields().entries {
            let allowed = kind.containers
            // `sound: mp4`, or `sound: {container: mp4, retention: short}`.
            let detailed = entry.value.node.mapping == nil ? nil : try Fields(entry.value.node, allowed: ["container", "retention"])
            let named = try detailed?.required("container") ?? entry.value
            guard let container = StageOutput.Container(rawValue: named.text), allowed.contains(container) else {
                throw named.fault("\(kind.rawValue) cannot write '\(named.text)'", "one of: " + allowed.map(\.rawValue).joined(separator: ", "))
            }
            let retention = try detailed?.optional("retention")
            if let retention, retention.text.isEmpty { throw retention.fault("'retention' is no name of a class", "classes are configured: retention-classes") }
            guard MediaKind(rawValue: entry.key) == nil else {
                throw entry.keyFault("an output cannot be called '\(entry.key)'", "that name stands for tracks of a kind")
            }
            outputs.append(Output(name: entry.key, container: container, retention: retention?.text))
        }
        guard !outputs.isEmpty else { throw fields.fault("no outputs", "for example {picture: mp4}") }
        return outputs
    }

    /// Puts the stages into an order of dependence and checks that every input exists.
    private static func ordered(_ read: [(stage: Stage, at: Value)], _ purpose: Purpose) throws(PipelineError) -> [Stage] {
        let byName = Dictionary(read.map { ($0.stage.name, $0.stage) }) { first, _ in first }
        for (stage, at) in read {
            for input in stage.inputs {
                let found = byName[input.stage]
                switch input {
                case .tracks where found?.kind != .depacketize:
                    throw at.fault("'\(stage.name)' reads tracks of '\(input.stage)', which is no depacketize stage", nil)
                case .output(_, let name) where found?.outputs.contains(where: { $0.name == name }) != true || found?.kind == .depacketize:
                    throw at.fault("'\(stage.name)' reads '\(input.stage).\(name)', which no stage makes", nil)
                case .output where found.map({ $0.condition.purpose ?? purpose }) != stage.condition.purpose ?? purpose:
                    throw at.fault("'\(stage.name)' reads '\(input.stage)', which is made for another purpose", "what is consented for one purpose is not used for another")
                default: continue
                }
            }
        }
        var done: [Stage] = []
        var waiting = read
        while !waiting.isEmpty {
            let ready = waiting.filter { entry in entry.stage.inputs.allSatisfy { input in done.contains { $0.name == input.stage } } }
            guard !ready.isEmpty else {
                throw waiting[0].at.fault("stages read from each other in a circle: " + waiting.map(\.stage.name).joined(separator: ", "), nil)
            }
            done += ready.map(\.stage)
            waiting.removeAll { entry in ready.contains { $0.stage.name == entry.stage.name } }
        }
        return done
    }
}

/// A YAML value with its place.
struct Value {
    let node: Node

    var text: String { node.string ?? "" }

    func fault(_ what: String, _ hint: String?) -> PipelineError {
        PipelineError(line: node.mark?.line ?? 0, column: node.mark?.column ?? 0, what: what, hint: hint)
    }

    func fields() throws(PipelineError) -> Fields { try Fields(node, allowed: nil) }

    func items() throws(PipelineError) -> [Value] {
        guard let sequence = node.sequence else { throw fault("a list is expected here", "[first, second]") }
        return sequence.map(Value.init)
    }

    func number(in range: ClosedRange<Double>, whole: Bool) throws(PipelineError) -> Double {
        guard let number = Double(text), number.isFinite, !whole || number == number.rounded() else {
            throw fault("'\(text)' is no \(whole ? "whole " : "")number", nil)
        }
        guard range.contains(number) else { throw fault("\(text) is out of range", "\(range.lowerBound) to \(range.upperBound)") }
        return number
    }
}

struct Entry {
    let keyNode: Node
    let value: Value
    var key: String { keyNode.string ?? "" }
    func keyFault(_ what: String, _ hint: String?) -> PipelineError { Value(node: keyNode).fault(what, hint) }
}

/// A YAML mapping with its place; unknown keys are refused.
struct Fields {
    let entries: [Entry]
    private let place: Value

    init(_ node: Node, allowed: [String]?) throws(PipelineError) {
        place = Value(node: node)
        guard let mapping = node.mapping else { throw place.fault("keys and values are expected here", "key: value") }
        entries = mapping.map { Entry(keyNode: $0.key, value: Value(node: $0.value)) }
        guard let allowed else { return }
        for entry in entries where !allowed.contains(entry.key) {
            throw entry.keyFault("unknown key '\(entry.key)'", "one of: " + allowed.joined(separator: ", "))
        }
    }

    func fault(_ what: String, _ hint: String?) -> PipelineError { place.fault(what, hint) }

    func optional(_ key: String) throws(PipelineError) -> Value? { entries.first { $0.key == key }?.value }

    func required(_ key: String) throws(PipelineError) -> Value {
        guard let value = try optional(key) else { throw fault("'\(key)' is missing", nil) }
        return value
    }

    func string(_ key: String) throws(PipelineError) -> String {
        let value = try required(key)
        guard !value.text.isEmpty else { throw value.fault("'\(key)' is no text", nil) }
        return value.text
    }
}
