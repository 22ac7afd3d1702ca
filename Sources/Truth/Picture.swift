/// Reads the numbers that the test cameras draw into their pictures.
///
/// A camera picture of 240 lines has three rows of 16 black or white blocks: lines 20..60 the frame number, 60..100 its inverse,
/// 180..220 the tag 1010, the participant's index (4 bits) and a checksum (8 bits).
public enum CodedPicture {
    /// Where a picture lies in a frame, in pixels.
    public struct Box: Hashable, Sendable {
        public var x, y, width, height: Double
        public init(x: Double, y: Double, width: Double, height: Double) {
            self.x = x
            self.y = y
            self.width = width
            self.height = height
        }
    }

    /// The (participant index, frame number) shown in `box` of a grey picture, nil where no coded picture lies.
    public static func read(_ luma: UnsafeBufferPointer<UInt8>, width: Int, height: Int, in box: Box) -> (index: Int, number: Int)? {
        func row(_ line: Double) -> (bits: Int, clear: Bool) {
            var bits = 0, clear = true
            for column in 0..<16 {
                var sum = 0, count = 0
                for dx in [0.35, 0.5, 0.65] {
                    for dy in [-8.0, 0, 8] {
                        let x = Int(box.x + (Double(column) + dx) * box.width / 16)
                        let y = Int(box.y + (line + dy) * box.height / 240)
                        guard (0..<width).contains(x), (0..<height).contains(y) else { return (0, false) }
                        sum += Int(luma[y * width + x])
                        count += 1
                    }
                }
                let mean = sum / count
                if abs(mean - 125) < 25 { clear = false }
                bits = bits << 1 | (mean > 125 ? 1 : 0)
            }
            return (bits, clear)
        }
        let (number, inverse, word) = (row(40), row(80), row(200))
        guard number.clear, inverse.clear, number.bits == ~inverse.bits & 0xFFFF, word.bits >> 12 == 0b1010 else { return nil }
        let index = word.bits >> 8 & 15
        guard word.bits & 255 == ((number.bits >> 8) + (number.bits & 255) + index) & 255 else { return nil }
        return (index, number.bits)
    }

    /// Every place where a 4:3 picture can lie in a grid of up to nine cells, so that nobody can hide from the search.
    public static func candidates(width: Int, height: Int) -> [Box] {
        var boxes: Set<Box> = []
        for columns in 1...3 {
            for rows in 1...3 {
                let (w, h) = (Double(width) / Double(columns), Double(height) / Double(rows))
                let scale = min(w / 4, h / 3)
                for i in 0..<columns * rows {
                    boxes.insert(Box(x: Double(i % columns) * w + (w - 4 * scale) / 2, y: Double(i / columns) * h + (h - 3 * scale) / 2,
                                     width: 4 * scale, height: 3 * scale))
                }
            }
        }
        return Array(boxes)
    }
}
