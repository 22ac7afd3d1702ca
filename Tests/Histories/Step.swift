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
    /// Somebody comes into a stream, perhaps again, or leaves it.
    case join(recording: Int, stream: Int, person: Int), leave(recording: Int, stream: Int, person: Int)
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
        for _ in 0..<Int.random(in: 4...14, using: &random) { steps.append(live(&random)) }
        guard Int.random(in: 0..<5, using: &random) > 0 else { return steps }
        steps += [.speak(recording: 0, lateMs: 0), .stop(0)]
        if Int.random(in: 0..<4, using: &random) > 0 { steps.append(.work) }
        if Int.random(in: 0..<4, using: &random) > 0 { steps.append(.release(0)) }
        for _ in 0..<Int.random(in: 3...12, using: &random) { steps.append(after(&random)) }
        guard Int.random(in: 0..<3, using: &random) == 0 else { return steps }
        return steps + [.work, .move(.justBeforeEnd(0)), .read(recording: 0, rendition: 0), .move(.toEnd(0)), .read(recording: 0, rendition: 0)]
    }

    private static func record(_ people: Int, _ random: inout Seeded) -> Step {
        let kinds = (0..<people).map { _ in MediaKind.allCases.filter { $0 == .audio ? Int.random(in: 0..<6, using: &random) > 0 : Int.random(in: 0..<3, using: &random) == 0 } }
        let mixes = Int.random(in: 0..<3, using: &random) == 0 ? [Array((0..<people).shuffled(using: &random).prefix(2))] : []
        return .record(days: [1, 3, 30].randomElement(using: &random)!, isSoundOnly: Bool.random(using: &random), kinds: kinds, mixes: mixes)
    }

    /// What happens while it runs, mostly.
    private static func live(_ random: inout Seeded) -> Step {
        let recording = random.number(5) == 0 ? 1 : 0
        switch random.number(100) {
        case 0..<30: return .speak(recording: recording, lateMs: [0, 0, 0, 300, 1_500].randomElement(using: &random)!)
        case 30..<42: return .write(isSynced: random.number(2) == 0)
        case 42..<58: return decision(recording, &random)
        case 58..<61: return .join(recording: recording, stream: random.number(6), person: random.number(4))
        case 61..<64: return .leave(recording: recording, stream: random.number(6), person: random.number(4))
        case 64..<67: return .pause(recording)
        case 67..<72: return .resume(recording)
        case 72..<74: return .stop(recording)
        case 74..<78: return .restrict(recording: recording, by: actor(&random), person: random.number(4), days: [1, 2, 20, 40].randomElement(using: &random)!)
        case 78..<82: return .lift(recording: recording, by: actor(&random), person: random.number(4))
        case 82..<86: return .move([.milliseconds(700), .milliseconds(6_000), .milliseconds(3_600_000), .days(1)].randomElement(using: &random)!)
        case 86..<91: return .crash(isTorn: random.number(2) == 0)
        case 91..<93: return .changeNotice
        case 93..<96: return .backup
        case 96: return .restore
        case 97: return record(4, &random)
        case 98: return .rejoin(recording: recording)
        default: return [.invite(isMinor: random.number(3) == 0), .check, .tidy, .rename(random.number(4))].randomElement(using: &random)!
        }
    }

    /// What happens when it is over, mostly.
    private static func after(_ random: inout Seeded) -> Step {
        let recording = random.number(6) == 0 ? 1 : 0
        switch random.number(100) {
        case 0..<22: return .read(recording: recording, rendition: random.number(8))
        case 22..<32: return .work
        case 32..<34: return .workFailing
        case 34..<40: return .workWhileWithdrawing(skipped: random.number(7), recording: recording, person: random.number(4), isErasing: random.number(2) == 0)
        case 40..<47: return .crashInStage(skipped: random.number(7), KillPoint.allCases.randomElement(using: &random)!)
        case 47..<65: return decision(recording, &random)
        case 65..<69: return .release(recording)
        case 69..<74: return .restrict(recording: recording, by: actor(&random), person: random.number(4), days: [1, 2, 20, 40].randomElement(using: &random)!)
        case 74..<79: return .lift(recording: recording, by: actor(&random), person: random.number(4))
        case 79..<83: return .rename(random.number(4))
        case 83..<86: return .move([.days(1), .days(15), .justBeforeEnd(recording), .toEnd(recording)].randomElement(using: &random)!)
        case 86..<89: return .crash(isTorn: false)
        case 89..<93: return .backup
        case 93..<97: return .restore
        case 97: return random.number(3) == 0 ? .erase(recording) : .stop(recording)
        default: return live(&random)
        }
    }

    private static func actor(_ random: inout Seeded) -> Actor { random.number(2) == 0 ? .own : Actor.allCases.randomElement(using: &random)! }

    private static func decision(_ recording: Int, _ random: inout Seeded) -> Step {
        let person = random.number(4)
        switch random.number(22) {
        case 0..<4: return .refuse(recording: recording, person: person, by: actor(&random))
        case 4..<10: return .withdraw(recording: recording, person: person, by: actor(&random), isErasing: random.number(3) > 0)
        default:
            let modalities = Set([Modality.audio, .video, .screen].filter { _ in random.number(3) > 0 })
            let purposes = Set(Purpose.allCases.filter { $0 == .publication ? random.number(30) == 0 : random.number(4) > 0 })
            return .give(recording: recording, person: person, by: actor(&random), modalities: modalities, purposes: purposes, isStale: random.number(12) == 0)
        }
    }
}

extension Seeded {
    fileprivate mutating func number(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }
}
