import Foundation

/// The setting `retention-classes`: `short=14,minutes=30`.
enum RetentionClasses {
    static func read(_ text: String?) throws -> [String: Int] {
        guard let text, !text.isEmpty else { return [:] }
        var classes: [String: Int] = [:]
        for entry in text.split(separator: ",") {
            let parts = entry.split(separator: "=", omittingEmptySubsequences: false).map { $0.trimmingCharacters(in: .whitespaces) }
            guard parts.count == 2, !parts[0].isEmpty, let days = Int(parts[1]), (1...3650).contains(days), classes.updateValue(days, forKey: parts[0]) == nil else {
                throw CommandError(what: "retention-classes has '\(entry)'", hint: "names and days between commas, each name once: short=14,minutes=30; 1 to 3650 days")
            }
        }
        return classes
    }
}
