/* INFOBATCH_API marks the symbols that libinfobatch exports; everything else is hidden.
 * INFOBATCH_LOCAL marks what would be exported with the class around it, and is not. */
#ifndef INFOBATCH_EXPORT_H_
#define INFOBATCH_EXPORT_H_

#if defined(INFOBATCH_STATIC)
#define INFOBATCH_API
#elif defined(_WIN32)
#if defined(INFOBATCH_BUILDING)
#define INFOBATCH_API __declspec(dllexport)
#else
#define INFOBATCH_API __declspec(dllimport)
#endif
#else
#define INFOBATCH_API __attribute__((visibility("default")))
#endif

#if defined(_WIN32) || defined(INFOBATCH_STATIC)
#define INFOBATCH_LOCAL
#else
#define INFOBATCH_LOCAL __attribute__((visibility("hidden")))
#endif

#endif /* INFOBATCH_EXPORT_H_ */
