import Catalog
import Consent
import Foundation
import Glibc
import GRDB
import Media
import PacketLog
import Recorder
import SealedFile

extension History {
    /// Every rule, on everything that is stored; `isWhole`: the audit log with all its signatures, too.
    func check(isWhole: Bool) async throws {
        try await tidy()
        for place in takes.indices {
            if model.recordings[place].phase == .gone { try await checkGone(place) } else { try await checkKept(place) }
            try await checkConsents(place)
        }
        if isWhole { verifyAudit() }
        try searchInTheClear()
        count("checked")
    }

    private func verifyAudit() {
        do { _ = try AuditReader(path: data.appending(path: "catalog.sqlite").path).verify() } catch { fault("the audit log does not verify: \(error)") }
    }

    /// Section 2: keys, then ciphertext, and a receipt.
    private func checkGone(_ place: Int) async throws {
        let take = takes[place]
        let keys = try await recorder.keys.ids(below: take.id)
        if !keys.isEmpty { fault("recording \(place) is gone and \(keys.count) of its keys are there") }
        let folder = data.appending(path: "recordings/\(take.id)").path
        if FileManager.default.fileExists(atPath: folder) { fault("recording \(place) is gone and its folder is there") }
        await expect([.gone], "look at what is gone") { _ = try await recorder.recording(take.id, as: Self.moderator) }
        await expect([nil], "receipt") {
            let receipt = try await recorder.receipt(of: take.id, as: Self.moderator)
            if let fault = receipt.fault() { self.fault("the receipt of recording \(place): \(fault)") }
        }
    }

    private func checkKept(_ place: Int) async throws {
        let (take, found) = (takes[place], model.recordings[place])
        let artifacts = data.appending(path: "recordings/\(take.id)/artifacts")
        var known: Set<String> = []
        for (stream, at) in take.streams.enumerated() {
            let folder = data.appending(path: "recordings/\(take.id)/tracks/\(at.track)").path
            let file = artifacts.appending(path: "\(at.track).sealed").path
            if found.streams[stream].isErased {
                if try await hasKey(KeyStore.track(at.track)) { fault("stream \(stream) of recording \(place) is erased and its key is there") }
                for path in [folder, file] where FileManager.default.fileExists(atPath: path) { fault("stream \(stream) of recording \(place) is erased and \(path) is there") }
                count("erased track looked for")
                continue
            }
            guard try await hasKey(KeyStore.track(at.track)) else {
                if !found.streams[stream].must.isEmpty { fault("the key of stream \(stream) of recording \(place) is gone, and \(found.streams[stream].must.count) packets with it") }
                continue
            }
            let key = try await recorder.keys.key(KeyStore.track(at.track))
            try compare(try packets(folder, TrackLogIdentity(recording: take.id, track: at.track, kind: at.kind), key), found.streams[stream], "the log of stream \(stream) of recording \(place)", isAll: true)
            known.insert("\(at.track).sealed")
            guard FileManager.default.fileExists(atPath: file) else { continue }
            let context = SealedContext(recording: take.id, object: KeyStore.track(at.track), modality: at.kind.rawValue, part: "matroska")
            let content = try Self.read(file, key, context)
            try compare(marks.found(in: content), found.streams[stream], "the track of stream \(stream) of recording \(place)", isAll: false)
        }
        for (rendition, content) in try await renditions(place) {
            known.insert("\(rendition.id).sealed")
            for mark in content { try checkMade(mark, place, "rendition \(rendition.stage).\(rendition.output) of recording \(place)") }
        }
        guard FileManager.default.fileExists(atPath: artifacts.path) else { return }
        for name in try FileManager.default.contentsOfDirectory(atPath: artifacts.path) where !known.contains(name) { fault("nobody knows of the file \(name) of recording \(place)") }
    }

    /// No packet twice, none that must not be there, none missing that must.
    private func compare(_ content: [Model.Mark], _ stream: Model.Stream, _ what: String, isAll: Bool) throws {
        let set = Set(content)
        if set.count < content.count { fault("\(what) has \(content.count - set.count) packets twice") }
        let foreign = set.subtracting(stream.must).subtracting(stream.may)
        if !foreign.isEmpty { fault("\(what) has \(foreign.count) packets without consent") }
        let lost = stream.must.subtracting(set)
        if isAll, !lost.isEmpty { fault("\(what) lacks \(lost.count) consented packets of \(stream.must.count)") }
        count("packets found", set.count)
    }

    private func checkMade(_ mark: Model.Mark, _ place: Int, _ what: String) throws {
        let (recording, stream) = Marks.place(mark)
        guard recording == place, stream < model.recordings[place].streams.count else { return fault("\(what) has media of another recording") }
        let found = model.recordings[place].streams[stream]
        if found.isErased { fault("\(what) has media of somebody who was erased (stream \(stream))") } else if !found.must.contains(mark), !found.may.contains(mark) {
            fault("\(what) has media without consent (stream \(stream))")
        }
    }

    func hasKey(_ id: String) async throws -> Bool {
        do {
            _ = try await recorder.keys.key(id)
            return true
        } catch is KeyStore.Missing { return false }
    }

    private func packets(_ folder: String, _ identity: TrackLogIdentity, _ key: DataKey) throws -> [Model.Mark] {
        guard FileManager.default.fileExists(atPath: folder) else { return [] }
        var segments: [TrackLogReader.Segment] = []
        defer { for segment in segments { close(segment.descriptor) } }
        for number in try TrackLogFolder.segments(folder) { segments.append(.init(number: number, descriptor: Glibc.open("\(folder)/\(TrackLogFiles.segment(number))", O_RDONLY | O_CLOEXEC))) }
        let reader = TrackLogReader(segments: segments, identity: identity, key: key)
        var found: [Model.Mark] = []
        while let record = try reader.next() {
            guard case .rtp(_, let bytes) = record else { continue }
            found += marks.found(in: bytes)
        }
        for defect in reader.defects {
            if case .unfinished = defect { continue }
            fault("the packet log \(folder): \(defect)")
        }
        return found
    }

    private static func read(_ path: String, _ key: DataKey, _ context: SealedContext) throws -> [UInt8] {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SealedFileError.system(call: "open \(path)", errno: errno) }
        defer { close(descriptor) }
        return try StandIn.read(descriptor, key, context)
    }

    /// The renditions that are there, a picture's parts among them, with whose media is really in them.
    private func renditions(_ place: Int) async throws -> [(rendition: RenditionRecord, content: [Model.Mark])] {
        let id = takes[place].id
        var all: [(RenditionRecord, [Model.Mark])] = []
        let records = try await recorder.catalog.read { try RenditionRecord.fetchAll($0, sql: "SELECT * FROM rendition WHERE recording = ? AND state IN ('ready','erased') ORDER BY created_at, rowid", arguments: [id.rawValue]) }
        for rendition in records {
            guard let own = RenditionID(rawValue: rendition.id) else { continue }
            let path = data.appending(path: "recordings/\(id)/artifacts/\(own).sealed").path
            if rendition.state == "erased" {
                if try await hasKey(KeyStore.rendition(own)) { fault("a rendition of recording \(place) is erased and its key is there") }
                if FileManager.default.fileExists(atPath: path) { fault("a rendition of recording \(place) is erased and its file is there") }
                continue
            }
            let key = try await recorder.keys.key(KeyStore.rendition(own))
            let content = try Self.read(path, key, SealedContext(recording: id, object: KeyStore.rendition(own), modality: rendition.kind, part: rendition.output))
            all.append((rendition, marks.found(in: content)))
            if oldNames.contains(where: { Marks.contains(Array($0.utf8), in: content) }), !seen.contains(rendition.id) { fault("a new rendition shows a name that was corrected") }
        }
        return all
    }

    /// What was just made holds media of people who share it, and of all of them.
    func lookAtNew(isComplete: Bool) async throws {
        for place in takes.indices where !model.recordings[place].isOver(now) {
            let found = model.recordings[place]
            for (rendition, content) in try await renditions(place) where seen.insert(rendition.id).inserted {
                let streams = Set(content.map { Marks.place($0).stream })
                for stream in streams where stream < found.streams.count && !found.isShared(found.streams[stream]) {
                    fault("a new \(rendition.kind) of recording \(place) has stream \(stream), which is not shared")
                }
                count("rendition made: \(rendition.kind)")
                guard isComplete, rendition.kind == "mix", !takes[place].mayFail else { continue }
                for (at, stream) in found.streams.enumerated() where stream.modality == .audio && !stream.isErased && found.isShared(stream) {
                    let lost = stream.must.subtracting(content)
                    if !lost.isEmpty { fault("a new mix of recording \(place) lacks \(lost.count) packets of stream \(at)") }
                }
            }
        }
    }

    /// The fold of the history is what people said last.
    private func checkConsents(_ place: Int) async throws {
        let id = takes[place].id
        let state: ConsentState
        do { state = try await recorder.catalog.read { try $0.consentState(of: id) } } catch { return fault("the consents of recording \(place) do not verify: \(error)") }
        guard model.recordings[place].phase != .gone else { return }
        for (number, person) in people.enumerated() {
            let decision = state.decisions[person.id]
            let yes = decision.flatMap { $0.modalities.isEmpty ? nil : Model.Yes(modalities: $0.modalities, purposes: $0.purposes) }
            if yes != model.recordings[place].yes[number] { fault("person \(number) said \(String(describing: model.recordings[place].yes[number])) to recording \(place), not \(String(describing: yes))") }
        }
    }

    /// No payload in the clear, in whatever file; no name that was corrected.
    private func searchInTheClear() throws {
        guard let names = FileManager.default.enumerator(atPath: data.path) else { return fault("the data folder cannot be listed") }
        let old = oldNames.map { Array($0.utf8) }
        while let name = names.nextObject() as? String {
            guard let bytes = FileManager.default.contents(atPath: data.appending(path: name).path) else { continue }  // folders
            let all = Array(bytes)
            if Marks.contains(marks.prefix, in: all) { fault("\(name) holds payload in the clear") }
            if Marks.contains(Array(marks.namePrefix.utf8), in: all), let found = old.first(where: { Marks.contains($0, in: all) }) { fault("\(name) holds the corrected name \(String(decoding: found, as: UTF8.self))") }
        }
    }

    /// Somebody looks at a recording and asks for a grant, and everybody tries to download one of its renditions.
    func read(_ place: Int, _ number: Int) async throws {
        let (id, found, now) = (takes[place].id, model.recordings[place], now)
        let isOver = found.isOver(now)
        if let person = people.isEmpty ? nil : number % people.count {
            await expect([isOver ? .gone : nil], "look") { _ = try await recorder.recording(id, as: people[person].own) }
            let expected: RecorderError.Code? = isOver ? .gone : found.isHeld(now) ? .restricted : found.sharesAnything(person) ? nil : .notConsented
            await expect([expected], "grant") { _ = try await recorder.grant(GrantRequest(), on: id, as: people[person].own) }
        }
        let rows = try await recorder.catalog.read { try $0.renditions(of: id.rawValue) }
        guard !rows.isEmpty, let rendition = RenditionID(rawValue: rows[number % rows.count].rendition.id) else { return }
        // What is over may be swept already, or not yet; then nothing more is known of its content.
        let content = isOver ? [] : try await renditions(place).first { $0.rendition.id == rendition.rawValue }?.content ?? []
        let streams = Set(content.map { Marks.place($0).stream }).filter { $0 < found.streams.count }
        let isShared = streams.allSatisfy { found.isShared(found.streams[$0]) }
        for person in people.indices {
            let expected: RecorderError.Code? = isOver ? .gone : found.isHeld(now) ? .restricted : found.isReleased && found.sharesAnything(person) && isShared ? nil : .notConsented
            await expect([expected], "download") {
                let download = try await recorder.download(rendition, as: people[person].own)
                var bytes: [UInt8] = []
                for try await chunk in download.body(0..<download.length) { bytes += chunk }
                if marks.found(in: bytes) != content { fault("a download is not the rendition") }
            }
            if person == 0 { await expect([expected == .gone ? .gone : .forbidden], "download by the moderator") { _ = try await recorder.download(rendition, as: Self.moderator) } }
        }
    }

    /// What a power cut may leave of segments that are not synced: cut somewhere behind what is.
    func tear(_ copy: URL) async throws {
        for (place, take) in takes.enumerated() where [.running, .paused].contains(model.recordings[place].phase) {
            for (stream, at) in take.streams.enumerated() where !model.recordings[place].streams[stream].unsynced.isEmpty {
                let folder = copy.appending(path: "recordings/\(take.id)/tracks/\(at.track)").path
                guard FileManager.default.fileExists(atPath: folder), let newest = try TrackLogFolder.segments(folder).last, try await hasKey(KeyStore.track(at.track)) else { continue }
                let key = try await recorder.keys.key(KeyStore.track(at.track))
                let listed = try TrackManifest.read(directory: folder, identity: TrackLogIdentity(recording: take.id, track: at.track, kind: at.kind), key: key)
                let path = "\(folder)/\(TrackLogFiles.segment(newest))"
                guard !listed.contains(where: { $0.number == newest }), let size = try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int else { continue }
                // Within the last block: all before it may have been synced.
                guard truncate(path, off_t(size - 1)) == 0 else { throw SealedFileError.system(call: "truncate", errno: errno) }
                count("segment torn")
            }
        }
    }
}
