import Foundation
import Glibc
import TestSupport

/// A real browser with one page, Chromium without a window, driven over a pipe: messages of the DevTools protocol, each with a zero behind it.
///
/// All calls block; what does not come within a minute is an error.
final class Browser {
    private let profile: TemporaryFolder
    private let process: Spawned
    private var number = 0
    private var session: String?

    /// `language`: what its user reads.
    init(language: String) throws {
        profile = try TemporaryFolder()
        // Whoever runs tests as root has no sandbox; the pages are our own. It reads from descriptor 3 and writes to 4.
        let words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio", "--autoplay-policy=no-user-gesture-required",
                     "--user-data-dir=\(profile.path)", "--remote-debugging-pipe", "about:blank"]
        process = try Spawned("/bin/sh", ["-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh"] + words, withInput: true)
        let targets = try call("Target.getTargets")["targetInfos"] as? [[String: Any]] ?? []
        guard let page = targets.first(where: { $0["type"] as? String == "page" })?["targetId"] else { throw KilledServer.Broken(description: "the browser has no page: \(targets)") }
        session = try call("Target.attachToTarget", ["targetId": page, "flatten": true])["sessionId"] as? String
        let agent = try call("Browser.getVersion")["userAgent"] ?? ""
        _ = try call("Emulation.setUserAgentOverride", ["userAgent": agent, "acceptLanguage": language])
    }

    deinit {
        kill(process.processIdentifier, SIGKILL)
        process.wait()
    }

    private func call(_ method: String, _ parameters: [String: Any] = [:]) throws -> [String: Any] {
        number += 1
        var message: [String: Any] = ["id": number, "method": method, "params": parameters]
        if let session { message["sessionId"] = session }
        try process.write([UInt8](JSONSerialization.data(withJSONObject: message)) + [0])
        while true {
            let bytes = process.read(upTo: 0)
            guard !bytes.isEmpty else { throw KilledServer.Broken(description: "the browser does not answer \(method)") }
            guard let answer = try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any], answer["id"] as? Int == number else { continue }  // an event
            guard let result = answer["result"] as? [String: Any] else { throw KilledServer.Broken(description: "\(method): \(answer)") }
            return result
        }
    }

    func go(to address: String) throws { _ = try call("Page.navigate", ["url": address]) }

    /// What an expression is in the page, once its promise is kept.
    @discardableResult
    func evaluate(_ expression: String) throws -> Any? {
        let answer = try call("Runtime.evaluate", ["expression": expression, "awaitPromise": true, "returnByValue": true])
        if let thrown = answer["exceptionDetails"] { throw KilledServer.Broken(description: "\(expression): \(thrown)") }
        return (answer["result"] as? [String: Any])?["value"]
    }

    /// Waits until an expression holds; what the page says then is in the error if it never does.
    func wait(until expression: String) throws {
        for _ in 0..<1_200 {
            // While a page is left nothing can be evaluated in it.
            if let holds = try? evaluate("Boolean(\(expression))") as? Bool, holds { return }
            usleep(50_000)
        }
        throw KilledServer.Broken(description: "it never came that \(expression): \(try evaluate("document.body.innerText") ?? "")")
    }
}
