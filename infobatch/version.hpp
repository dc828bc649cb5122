#pragma once

/// The version of this library (semantic versioning). The build system reads it from here, so that
/// it stands once.
#define INFOBATCH_VERSION_MAJOR 0
#define INFOBATCH_VERSION_MINOR 1
#define INFOBATCH_VERSION_PATCH 0

/// "major.minor.patch" as a string literal.
#define INFOBATCH_VERSION "0.1.0"
