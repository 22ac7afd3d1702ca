import Foundation
import Recorder

/// Draws a meeting's timeline as an SVG: who spoke when, whose picture was there when, who had consented when.
struct TimelinePicture {
    let timeline: TimelineView
    /// People who took part and were not recorded: they get a row that says so and nothing else.
    let unrecorded: [String]

    private static let (left, width, row, bar) = (150.0, 900.0, 58.0, 14.0)

    func svg() -> String {
        let seconds = max(timeline.endWall - timeline.startWall, 1)
        let rows = timeline.people.count + unrecorded.count
        let height = 70 + Self.row * Double(rows) + 40
        var body = """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(Self.left + Self.width + 40)) \(Int(height))" font-family="DejaVu Sans, sans-serif" font-size="13">
            <rect width="100%" height="100%" fill="#fbfaf7"/>
            <text x="20" y="32" font-size="18" fill="#222">Timeline of the meeting</text>
            <g font-size="12" fill="#444"><rect x="400" y="20" width="16" height="12" fill="#2f6f9f"/><text x="422" y="31">speaks</text>
            <rect x="500" y="20" width="16" height="12" fill="#9fc3a5"/><text x="522" y="31">picture recorded</text>
            <rect x="650" y="20" width="16" height="12" fill="#e7d9a8"/><text x="672" y="31">consented</text></g>

            """
        let step = [5.0, 10, 30, 60, 300, 600, 1800, 3600].first { seconds / $0 <= 12 } ?? 7200
        for tick in stride(from: 0, through: seconds, by: step) {
            let x = place(tick, seconds)
            body += "<line x1=\"\(x)\" y1=\"52\" x2=\"\(x)\" y2=\"\(height - 30)\" stroke=\"#ddd\"/>"
            body += "<text x=\"\(x)\" y=\"\(height - 12)\" text-anchor=\"middle\" fill=\"#777\">\(Int(tick) / 60):\(String(format: "%02d", Int(tick) % 60))</text>\n"
        }
        var y = 62.0
        for person in timeline.people {
            body += "<text x=\"20\" y=\"\(y + 26)\" fill=\"#222\">\(escaped(person.name ?? "?"))</text>\n"
            body += spans(person.consented, y, Self.row - 14, "#e7d9a8", seconds)
            body += spans(person.picture, y + 6, Self.bar, "#9fc3a5", seconds)
            body += spans(person.speech, y + 24, Self.bar, "#2f6f9f", seconds)
            y += Self.row
        }
        for name in unrecorded {
            body += "<text x=\"20\" y=\"\(y + 26)\" fill=\"#222\">\(escaped(name))</text>"
            body += "<text x=\"\(Self.left)\" y=\"\(y + 26)\" fill=\"#999\">takes part, said no: nothing of this person was written</text>\n"
            y += Self.row
        }
        return body + "</svg>\n"
    }

    private func place(_ second: Double, _ seconds: Double) -> Double { Self.left + Self.width * min(max(second / seconds, 0), 1) }

    private func spans(_ list: [[Double]], _ y: Double, _ height: Double, _ colour: String, _ seconds: Double) -> String {
        list.filter { $0.count == 2 }.map { span in
            let from = place(span[0] - timeline.startWall, seconds)
            let to = place(span[1] - timeline.startWall, seconds)
            return "<rect x=\"\(from)\" y=\"\(y)\" width=\"\(max(to - from, 1))\" height=\"\(height)\" rx=\"2\" fill=\"\(colour)\"/>"
        }.joined() + "\n"
    }

    private func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing("\"", with: "&quot;")
    }
}
