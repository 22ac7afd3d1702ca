import Consent
import Media
import TestSupport

/// One thing that happens in a history. Numbers name people, recordings and so on modulo how many there are, so that any sublist is a history.
public enum Step: Sendable {
    public enum Actor: Sendable, CaseIterable { case own, guardian, moderator, platform }
    public enum Amount: Sendable { case milliseconds(Int64), days(Int64), justBeforeEnd(Int), toEnd(Int) }
    /// Where a stage's process and the server are killed.
    public enum KillPoint: Sendable, CaseIterable { case halfWritten, written, renamed }

    case invite(isMinor: Bool)
    /// `mixes`: people of a further sound stream that cannot be separated.
    case record(days: Int, isSoundOnly: Bool, kinds: [[MediaKind]], mixes: [[Int]])
    /// Everybody sends to every stream for a second; `lateMs`: the packets arrived that long ago.
    case speak(recording: Int, lateMs: Int64)
    /// The sender comes back with another SSRC.
    case rejoin(recording: Int)
    case write(isSynced: Bool)
    case give(recording: Int, person: Int, by: Actor, modalities: Set<Modality>, purposes: Set<Purpose>, isStale: Bool)
    case refuse(recording: Int, person: Int, by: Actor)
    case withdraw(recording: Int, person: Int, by: Actor, isErasing: Bool)
    case pause(Int), resume(Int), stop(Int), release(Int), erase(Int)
    case work
    case workFailing
    /// `person` withdraws while the stage after `skipped` others runs.
    case workWhileWithdrawing(skipped: Int, recording: Int, person: Int, isErasing: Bool)
    case read(recording: Int, rendition: Int)
    case restrict(recording: Int, by: Actor, person: Int, days: Int64)
    case lift(recording: Int, by: Actor, person: Int)
    case rename(Int)
    case move(Amount)
    case tidy
    case crash(isTorn: Bool)
    case crashInStage(skipped: Int, KillPoint)
    case changeNotice
    case backup, restore
    case check

    /// Its name without what is in it.
    var name: String { String("\(self)".prefix { $0 != "(" }) }

    /// A random history: people join, are recorded, change their minds, and the recorder has a hard life.
    static func history(seed: UInt64) -> [Step] {
        var random = Seeded(seed)
        let people = Int.random(in: 2...4, using: &random)
        var steps = (0..<people).map { _ in Step.invite(isMinor: Int.random(in: 0..<5, using: &random) == 0) }
        steps.append(record(people, &random))
        for person in 0..<people where Int.random(in: 0..<4, using: &random) > 0 {
            steps.append(.give(recording: 0, person: person, by: Int.random(in: 0..<4, using: &random) == 0 ? .guardian : .own, modalities: [.audio, .video, .screen],
                               purposes: [.minutes, .shareWithParticipants], isStale: false))
        }
        for _ in 0..<Int.random(in: 10...28, using: &random) { steps.append(any(&random)) }
        if Bool.random(using: &random) {
            steps += [.speak(recording: 0, lateMs: 0), .stop(0), .work, .release(0), .read(recording: 0, rendition: Int.random(in: 0..<5, using: &random))]
            steps.append(.withdraw(recording: 0, person: Int.random(in: 0..<people, using: &random), by: .own, isErasing: Bool.random(using: &random)))
            steps += [.read(recording: 0, rendition: Int.random(in: 0..<5, using: &random)), .work, .read(recording: 0, rendition: Int.random(in: 0..<5, using: &random))]
            steps += [.move(.justBeforeEnd(0)), .read(recording: 0, rendition: 0), .move(.toEnd(0)), .read(recording: 0, rendition: 0)]
        }
        return steps
    }

    private static func record(_ people: Int, _ random: inout Seeded) -> Step {
        let kinds = (0..<people).map { _ in MediaKind.allCases.filter { $0 == .audio ? Int.random(in: 0..<6, using: &random) > 0 : Int.random(in: 0..<3, using: &random) == 0 } }
        let mixes = Int.random(in: 0..<3, using: &random) == 0 ? [Array((0..<people).shuffled(using: &random).prefix(2))] : []
        return .record(days: [1, 3, 30].randomElement(using: &random)!, isSoundOnly: Bool.random(using: &random), kinds: kinds, mixes: mixes)
    }

    private static func any(_ random: inout Seeded) -> Step {
        func number(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &random) }
        func actor() -> Actor { number(2) == 0 ? .own : Actor.allCases.randomElement(using: &random)! }
        let (recording, person) = (number(4) == 0 ? 1 : 0, number(4))
        switch number(104) {
        case 0..<18: return .speak(recording: recording, lateMs: [0, 0, 0, 300, 1_500].randomElement(using: &random)!)
        case 18..<26: return .write(isSynced: number(2) == 0)
        case 26..<33:
            let modalities = Set([Modality.audio, .video, .screen].filter { _ in number(3) > 0 })
            let purposes = Set(Purpose.allCases.filter { $0 == .publication ? number(30) == 0 : number(4) > 0 })
            return .give(recording: recording, person: person, by: actor(), modalities: modalities, purposes: purposes, isStale: number(12) == 0)
        case 33..<36: return .refuse(recording: recording, person: person, by: actor())
        case 36..<41: return .withdraw(recording: recording, person: person, by: actor(), isErasing: number(3) > 0)
        case 41..<43: return .pause(recording)
        case 43..<46: return .resume(recording)
        case 46..<50: return .stop(recording)
        case 50..<54: return .release(recording)
        case 54: return .erase(recording)
        case 55..<62: return .work
        case 62..<64: return .workFailing
        case 64..<67: return .workWhileWithdrawing(skipped: number(6), recording: recording, person: person, isErasing: number(2) == 0)
        case 67..<73: return .read(recording: recording, rendition: number(8))
        case 73..<76: return .restrict(recording: recording, by: actor(), person: person, days: [1, 2, 20, 40].randomElement(using: &random)!)
        case 76..<79: return .lift(recording: recording, by: actor(), person: person)
        case 79..<81: return .rename(person)
        case 81..<87:
            return .move([.milliseconds(700), .milliseconds(6_000), .milliseconds(3_600_000), .days(1), .days(15), .justBeforeEnd(recording), .toEnd(recording)].randomElement(using: &random)!)
        case 87..<89: return .tidy
        case 89..<92: return .crash(isTorn: number(2) == 0)
        case 92..<95: return .crashInStage(skipped: number(6), KillPoint.allCases.randomElement(using: &random)!)
        case 95..<97: return .changeNotice
        case 97..<99: return .backup
        case 99..<101: return .restore
        case 101: return record(4, &random)
        case 102: return .invite(isMinor: number(3) == 0)
        default: return number(2) == 0 ? .rejoin(recording: recording) : .check
        }
    }
}
