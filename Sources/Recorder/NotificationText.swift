import Consent
import Foundation
import Media

/// What a message says, by mail and on the page: no name, no topic, and nobody else's address. That there was a meeting, and when, is all.
struct NotificationText: Hashable, Sendable {
    struct Facts: Hashable, Sendable {
        var startedAt: WallTime
        var expiresAt: WallTime
        var isModerators = false
        var controller = RetentionPolicy.unnamedController
        var authority = RetentionPolicy.unnamedAuthority
        /// Where the person's page is; nil where it is not configured.
        var page: String?
        var zone = TimeZone.current
    }

    var subject: String
    var text: String

    init(_ kind: NotificationView.Kind, _ language: Language, _ facts: Facts) {
        let day = Self.date(facts.startedAt, language, facts.zone, hasTime: false)
        let end = Self.date(facts.expiresAt, language, facts.zone, hasTime: true)
        let body: String
        switch language {
        case .de: (subject, body) = Self.german(kind, day, end, facts)
        case .en: (subject, body) = Self.english(kind, day, end, facts)
        }
        text = body + "\n\n" + Self.footer(language, facts) + "\n"
    }

    private static func german(_ kind: NotificationView.Kind, _ day: String, _ end: String, _ facts: Facts) -> (String, String) {
        switch kind {
        case .withdrawn: ("Bitte löschen Sie Ihre Kopie einer Aufzeichnung", """
            Sie haben die Aufzeichnung vom \(day) heruntergeladen. Jemand, der darin vorkommt, hat die Einwilligung widerrufen und alles von sich löschen lassen.

            Bitte löschen Sie Ihre Kopien und geben Sie sie nicht weiter. Die Aufzeichnung wird ohne diese Person neu erstellt; Sie können sie dann wieder herunterladen.

            Diese Mitteilung ist gesetzlich vorgeschrieben (Art. 19 DSGVO).
            """)
        case .corrected: ("Eine Aufzeichnung wurde berichtigt", """
            Sie haben die Aufzeichnung vom \(day) heruntergeladen. Ein Name darin wurde berichtigt.

            Bitte ersetzen Sie Ihre Kopien durch die neue Fassung, sobald sie bereitsteht.

            Diese Mitteilung ist gesetzlich vorgeschrieben (Art. 19 DSGVO).
            """)
        case .expiring: ("Eine Aufzeichnung wird bald gelöscht", """
            Die Aufzeichnung vom \(day) wird am \(end) endgültig gelöscht. Danach kann sie niemand mehr lesen\(facts.isModerators ? "." : ", auch Sie nicht; bis dahin können Sie sie herunterladen.")
            """)
        }
    }

    private static func english(_ kind: NotificationView.Kind, _ day: String, _ end: String, _ facts: Facts) -> (String, String) {
        switch kind {
        case .withdrawn: ("Please delete your copy of a recording", """
            You downloaded the recording of \(day). Somebody who is in it has withdrawn their consent, and had everything of them erased.

            Please delete your copies and do not pass them on. The recording is made again without this person; you can then download it anew.

            The law asks for this message (Art. 19 GDPR).
            """)
        case .corrected: ("A recording was corrected", """
            You downloaded the recording of \(day). A name in it was corrected.

            Please replace your copies with the new version as soon as it is there.

            The law asks for this message (Art. 19 GDPR).
            """)
        case .expiring: ("A recording will soon be erased", """
            The recording of \(day) will be erased for good on \(end). After that nobody can read it\(facts.isModerators ? "." : "; until then you can download it.")
            """)
        }
    }

    private static func footer(_ language: Language, _ facts: Facts) -> String {
        let isGerman = language == .de
        var lines: [String] = []
        if let page = facts.page { lines.append((isGerman ? "Ihre Seite: " : "Your page: ") + page) }
        let controller = isGerman && facts.controller == RetentionPolicy.unnamedController ? "der Verein, der diesen Server betreibt" : facts.controller
        let authority = isGerman && facts.authority == RetentionPolicy.unnamedAuthority ? "Datenschutzaufsicht Ihres Bundeslandes" : facts.authority
        lines.append((isGerman ? "Verantwortlich: " : "Responsible: ") + controller)
        lines.append((isGerman ? "Beschwerden (Art. 77 DSGVO): " : "Complaints (Art. 77 GDPR): ") + authority)
        return lines.joined(separator: "\n")
    }

    private static func date(_ time: WallTime, _ language: Language, _ zone: TimeZone, hasTime: Bool) -> String {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = zone
        formatter.dateFormat = switch (language, hasTime) {
        case (.de, false): "d.M.yyyy"
        case (.de, true): "d.M.yyyy 'um' HH:mm 'Uhr'"
        case (.en, false): "d MMMM yyyy"
        case (.en, true): "d MMMM yyyy 'at' HH:mm"
        }
        return formatter.string(from: Date(timeIntervalSince1970: time.seconds))
    }
}
