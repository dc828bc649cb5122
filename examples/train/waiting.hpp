#pragma once

namespace infobatch::train {

/// Makes the threads of a parallel computation sleep while they wait for one another.
///
/// The OpenMP runtime lets them spin, which takes processor time from whoever could use it: with
/// other programs on the machine a training step was seen to take eight times as long. It reads its
/// settings while the program is loaded, so this starts the program anew (the same process, before
/// it has done anything) with OMP_WAIT_POLICY=passive. Nothing happens where the caller's
/// environment says something about waiting.
void wait_passively(char** argv);

}  // namespace infobatch::train
