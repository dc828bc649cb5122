#pragma once

/// Marks the symbols that libinfobatch_samplers exports.
#if defined(INFOBATCH_STATIC)
#define INFOBATCH_SAMPLERS_API
#elif defined(_WIN32)
#if defined(INFOBATCH_SAMPLERS_BUILDING)
#define INFOBATCH_SAMPLERS_API __declspec(dllexport)
#else
#define INFOBATCH_SAMPLERS_API __declspec(dllimport)
#endif
#else
#define INFOBATCH_SAMPLERS_API __attribute__((visibility("default")))
#endif
