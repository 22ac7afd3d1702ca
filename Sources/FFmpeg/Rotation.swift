import CFFmpeg

extension Frame {
    /// Copies all of `source`, turned clockwise by `degrees` (90, 180 or 270), to (x, y), all even; both are planar 4:2:0.
    public func copy(_ source: borrowing Frame, turnedClockwise degrees: Int, toX x: Int, y: Int) {
        let (to, from) = (raw.pointee, source.raw.pointee)
        func plane(_ target: UnsafeMutablePointer<UInt8>?, _ stride: Int32, _ origin: UnsafeMutablePointer<UInt8>?, _ originStride: Int32, _ half: Int) {
            guard let target, let origin else { return }
            let (width, height) = (source.width / half, source.height / half)
            let (step, down) = (Int(originStride), Int(stride))
            let corner = target + y / half * down + x / half
            // The pixel that comes to the left end of a line, and the way from there along the line, and to the next line's.
            let (first, along, next) = switch degrees {
            case 90: ((height - 1) * step, -step, 1)
            case 180: ((height - 1) * step + width - 1, -1, -step)
            default: (width - 1, step, -1)
            }
            let (columns, lines) = degrees == 180 ? (width, height) : (height, width)
            for line in 0..<lines {
                var pixel = origin + first + line * next
                let row = corner + line * down
                for column in 0..<columns {
                    row[column] = pixel.pointee
                    pixel += along
                }
            }
        }
        plane(to.data.0, to.linesize.0, from.data.0, from.linesize.0, 1)
        plane(to.data.1, to.linesize.1, from.data.1, from.linesize.1, 2)
        plane(to.data.2, to.linesize.2, from.data.2, from.linesize.2, 2)
    }
}
