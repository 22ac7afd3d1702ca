import ArgumentParser
import Foundation
import Media
import Recorder

/// Who has to be told after a breach (Art. 33, 34).
struct BreachCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "breach", abstract: "Who is in these recordings, tracks or versions, and who had received them.",
        discussion: "Reads the catalog only, while a server runs or not; needs no key. Ids are as receipts, file names and the API give them. With names: the list is health data.")

    @Option(help: "The server's data folder.") var data: String
    @Flag(help: "As JSON, like POST /v1/breach.") var json = false
    @Argument(help: "Ids of recordings, tracks or renditions; - reads them from standard input, one a line.") var ids: [String]

    func run() throws {
        let catalog = URL(filePath: data).appending(path: "catalog.sqlite").path
        guard FileManager.default.fileExists(atPath: catalog) else { throw CommandError(what: "there is no catalog in \(data)", hint: "give the server's data folder with --data") }
        var objects = ids.filter { $0 != "-" }
        if ids.contains("-") { while let line = readLine() { if !line.isEmpty { objects.append(line) } } }
        let view: BreachView
        do { view = try Recorder.affected(by: objects, catalog: catalog) } catch { throw CommandError(what: "the catalog cannot be read: \(error)") }
        if json {
            let encoder = JSONEncoder()
            encoder.keyEncodingStrategy = .convertToSnakeCase
            encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
            print(String(decoding: try encoder.encode(view), as: UTF8.self))
            return
        }
        print("affected: \(view.affected.count)")
        for person in view.affected {
            print("  \(person.name ?? "(name erased)")  \(person.participant)  \(person.modalities.map(\.rawValue).joined(separator: ", "))  in \(person.objects.joined(separator: ", "))")
        }
        print("had received it: \(view.recipients.count)")
        for person in view.recipients {
            print("  \(person.name ?? "(name erased)")  \(person.participant)  \(person.rendition)  last \(Date(timeIntervalSince1970: person.lastAt).formatted(.iso8601)), \(person.bytes) bytes")
        }
        for id in view.unknown { print("unknown: \(id)") }
    }
}
