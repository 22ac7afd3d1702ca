#include <opus/opus.h>

// A variadic call that Swift cannot make.
static inline int copus_decoder_reset(OpusDecoder *decoder) { return opus_decoder_ctl(decoder, OPUS_RESET_STATE); }
