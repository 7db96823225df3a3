/* Helpers: a program that frees what a closed descriptor does not, run once for each generation of registered memory
 * that goes.
 *
 * It gets the channel and the generation as arguments and the slots on its standard input, which is a memfd: nobody
 * waits for anybody.  What it says goes where our own words go.  Helpers that still run when the broker ends go on
 * alone.  Thread: the loop's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "broker/broker.h"

struct helper {
  LIST_ENTRY(helper) link;
  uv_process_t process;
};

static void on_closed(uv_handle_t *handle) {
  free(handle->data);
}

static void helper_close(struct helper *helper) {
  LIST_REMOVE(helper, link);
  uv_close((uv_handle_t *)&helper->process, on_closed);
}

static void on_ended(uv_process_t *process, int64_t exit_status, int signal) {
  if (exit_status != 0 || signal != 0)
    slc__log(SLC__LOG_WARNING, "the free helper ended with status %lld, signal %d", (long long)exit_status, signal);
  helper_close(process->data);
}

static bool write_all(int fd, const char *lines, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t written = write(fd, lines + done, size - done);
    if (written <= 0) return false;
    done += (size_t)written;
  }
  return lseek(fd, 0, SEEK_SET) == 0;
}

static int helper_start(struct broker *broker, struct helper *helper, const char *channel, uint32_t generation,
                        int input) {
  char number[16];
  snprintf(number, sizeof number, "%u", generation);
  char *arguments[] = {(char *)(uintptr_t)broker->options.free_helper, (char *)(uintptr_t)channel, number, NULL};
  uv_stdio_container_t descriptors[] = {
      {.flags = UV_INHERIT_FD, .data.fd = input},
      {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
      {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
  };
  uv_process_options_t options = {
      .exit_cb = on_ended,
      .file = broker->options.free_helper,
      .args = arguments,
      .stdio_count = 3,
      .stdio = descriptors,
  };
  LIST_INSERT_HEAD(&broker->helpers, helper, link);
  helper->process.data = helper;
  return uv_spawn(broker->loop, &helper->process, &options);
}

void helper_run(struct broker *broker, const char *channel, uint32_t generation, const char *lines, size_t size) {
  SLC__CLEANUP_FD int input = memfd_create("slotcast-free", MFD_CLOEXEC);
  struct helper *helper = calloc(1, sizeof *helper);
  if (helper == NULL || input < 0 || !write_all(input, lines, size)) {
    slc__log(SLC__LOG_ERROR, "cannot tell the free helper of generation %u of %s: no memory or descriptors", generation,
             channel);
    free(helper);
    return;
  }
  int error = helper_start(broker, helper, channel, generation, input);
  if (error == 0) return;
  slc__log(SLC__LOG_ERROR, "cannot run %s for generation %u of %s: %s", broker->options.free_helper, generation,
           channel, uv_strerror(error));
  helper_close(helper); /* libuv wants the handle closed also when it did not start */
}

void helpers_forget(struct broker *broker) {
  struct helper *helper;
  while ((helper = LIST_FIRST(&broker->helpers)) != NULL) helper_close(helper);
}
