/* The options that say of what memory a channel is made and how it is mapped, the same for every command that takes
 * them.  Thread: main. */
#include <string.h>

#include "cli.h"

#define PAGES_MIN (UINT64_C(1) << 20)
#define PAGES_MAX (UINT64_C(16) << 30)

bool is_memory_option(int option) {
  return option >= OPTION_MEMORY_BACKEND && option <= OPTION_MEMORY_LOCK;
}

static int take_backend(const char *text, struct memory_options *ret) {
  if (strcmp(text, "memfd") == 0) {
    ret->backend = SLC_BACKEND_MEMFD;
  } else if (strcmp(text, "shm") == 0) {
    ret->backend = SLC_BACKEND_SHM;
  } else {
    return fail(EXIT_USAGE, "--backend is memfd or shm, not '%s'", text);
  }
  return EXIT_OK;
}

static int take_pages(const char *text, struct memory_options *ret) {
  if (strcmp(text, "small") == 0) {
    ret->pages = SLC_PAGES_SMALL;
  } else if (strcmp(text, "transparent") == 0) {
    ret->pages = SLC_PAGES_TRANSPARENT;
  } else if (!parse_number(text, PAGES_MIN, PAGES_MAX, &ret->pages)) {
    return fail(EXIT_USAGE, "--pages is small, transparent, or the size of huge pages (2M, 1G), not '%s'", text);
  }
  return EXIT_OK;
}

int take_memory_option(int option, const char *value, struct memory_options *ret) {
  switch (option) {
  case OPTION_MEMORY_BACKEND:
    return take_backend(value, ret);
  case OPTION_MEMORY_PAGES:
    return take_pages(value, ret);
  case OPTION_MEMORY_PREFAULT:
    ret->prefault = true;
    return EXIT_OK;
  default:
    ret->lock = true;
    return EXIT_OK;
  }
}

const char *pages_text(uint64_t pages, char text[32]) {
  if (pages == SLC_PAGES_TRANSPARENT) return "transparent";
  if (pages <= SLC_PAGES_SMALL) return "small";
  bool is_giga = pages % (UINT64_C(1) << 30) == 0;
  snprintf(text, 32, "%llu%c", (unsigned long long)(pages >> (is_giga ? 30 : 20)), is_giga ? 'G' : 'M');
  return text;
}

const char *backend_text(int backend) {
  return backend == SLC_BACKEND_SHM ? "shm" : backend == SLC_BACKEND_MEMFD ? "memfd" : "";
}
