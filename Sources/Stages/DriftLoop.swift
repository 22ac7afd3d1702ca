/// Steers a resampler so that sound stays at its packets' places although the sender's clock is not ours. Pure.
///
/// Times in a file are rounded to a millisecond, so each packet's error is noise of up to half of one; what is followed is the error of many.
/// A loop of second order (natural frequency 0.1 rad/s) settles within half a minute, never strays more than some 3 ms on the way at
/// 500 ppm, and changes the pitch by less than a fiftieth of a semitone.
struct DriftLoop {
    /// Clocks err by at most 500 ppm; the rest pulls in what has gathered.
    static let ppmMax = 900.0
    private static let clockPPMMax = 600.0
    private static let smoothingSeconds = 1.0
    /// Per sample of error, and per sample and second: twice the damping (0.8) times the frequency, and its square, in ppm of 48 kHz.
    private static let proportional = 0.16 / 48_000 * 1e6
    private static let integral = 0.01 / 48_000 * 1e6

    /// What must be added to the number of samples.
    private(set) var ppm = 0.0
    /// Low-passed error in samples at 48 kHz.
    private(set) var error = 0.0
    private var clockPPM = 0.0

    /// A packet of `seconds` should have begun `error` samples later than it does.
    mutating func observe(error sample: Double, seconds: Double, isSteering: Bool) {
        error += (sample - error) * seconds / (seconds + Self.smoothingSeconds)
        guard isSteering else { return }
        clockPPM = min(Self.clockPPMMax, max(-Self.clockPPMMax, clockPPM + Self.integral * error * seconds))
        ppm = min(Self.ppmMax, max(-Self.ppmMax, clockPPM + Self.proportional * error))
    }

    /// Sound begins anew at its packet's place; what is known of the clock stays.
    mutating func restart() {
        error = 0
        ppm = clockPPM
    }
}
