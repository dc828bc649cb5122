// A library of the user's. Its header shows nothing of InfoBatch.
#pragma once

/// Samples of the first pruned epoch over `size` samples, every second of which is easy.
long long pruned_epoch(long long size);
