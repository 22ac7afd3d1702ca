import Foundation
import Tap

/// The RTP payloads in a capture, by destination port.
enum CapturedPayloads {
    static func read(_ capture: URL, body: (UInt16, [UInt8]) -> Void) throws {
        let reader = try CaptureFileReader(path: capture.path)
        while let datagram = try reader.next() { body(datagram.destinationPort, Array(datagram.payload.dropFirst(12))) }
    }
}
