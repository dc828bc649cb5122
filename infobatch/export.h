/* Marks the symbols that libinfobatch exports; everything else is hidden. */
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

#endif /* INFOBATCH_EXPORT_H_ */
