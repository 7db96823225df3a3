/* Sets of publishers' doorbells: whole sets, what stays, what goes, and what must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "slotcast/status.h"
#include "support/leaks.h"
#include "watchers.h"

#define ENTRIES_MAX 4

/* A page as the broker would send it, built entry by entry. */
struct page {
  Slotcast__Message message;
  Slotcast__Watchers body;
  Slotcast__Watcher watchers[ENTRIES_MAX];
  Slotcast__Descriptor descriptors[ENTRIES_MAX];
  Slotcast__Watcher *list[ENTRIES_MAX];
  Slotcast__Descriptor *descriptor_list[ENTRIES_MAX];
  struct slc__fds fds;
};

static void page_begin(struct page *page, uint64_t number, bool more) {
  memset(page, 0, sizeof *page);
  slotcast__message__init(&page->message);
  slotcast__watchers__init(&page->body);
  slc__fds_init(&page->fds);
  page->message.descriptors = page->descriptor_list;
  page->body.number = number;
  page->body.more = more;
  page->body.watchers = page->list;
}

/* With a descriptor of that kind when it is fresh; the number of it. */
static int page_add(struct page *page, uint32_t publisher, uint32_t id, bool fresh, Slotcast__DescriptorKind kind) {
  size_t i = page->body.n_watchers++;
  slotcast__watcher__init(&page->watchers[i]);
  page->watchers[i].publisher = publisher;
  page->watchers[i].id = id;
  page->watchers[i].fresh = fresh;
  page->list[i] = &page->watchers[i];
  if (!fresh) return -1;
  size_t at = page->message.n_descriptors++;
  int fd = dup(STDERR_FILENO);
  assert_true(fd >= 0);
  slotcast__descriptor__init(&page->descriptors[at]);
  page->descriptors[at].kind = kind;
  page->descriptors[at].writable = true;
  page->descriptor_list[at] = &page->descriptors[at];
  page->fds.fd[page->fds.count++] = fd;
  return fd;
}

static int add_fresh(struct page *page, uint32_t publisher, uint32_t id) {
  return page_add(page, publisher, id, true, SLOTCAST__DESCRIPTOR_KIND__DOORBELL);
}

static int page_give(struct page *page, struct slc__watcher_sets *sets) {
  struct slc__received received = {.message = &page->message, .fds = &page->fds};
  int status = slc__watchers_page(sets, &page->body, &received);
  slc__fds_deinit(&page->fds);
  return status;
}

/* A client whose broker says nothing more. */
struct fixture {
  slc_client client;
  struct slc__watcher_sets sets;
  struct slc__watch watch;
  struct test_leaks leaks;
};

static void fixture_open(struct fixture *f) {
  memset(f, 0, sizeof *f);
  test_leaks_note(&f->leaks);
  pthread_mutex_init(&f->client.lock, NULL);
  atomic_store(&f->client.gone, true);
  f->client.back.link = SLC__LINK_DOWN;
}

static void fixture_close(struct fixture *f) {
  slc__watchers_deinit(&f->sets);
  pthread_mutex_destroy(&f->client.lock);
  assert_int_equal(test_leaks_check(&f->leaks), 0);
}

static void use(struct fixture *f, uint64_t number) {
  slc__watchers_sync(&f->sets, &f->client, &f->watch, number);
}

static bool is_open(int fd) {
  return fcntl(fd, F_GETFD) >= 0;
}

static void test_sets_replace_each_other(void **state) {
  (void)state;
  struct fixture f;
  struct page page;
  fixture_open(&f);
  use(&f, 1);
  assert_null(f.watch.set); /* nothing has come */
  page_begin(&page, 1, false);
  int first = add_fresh(&page, 7, 1), second = add_fresh(&page, 9, 2);
  assert_int_equal(page_give(&page, &f.sets), 0);
  assert_null(f.watch.set);
  use(&f, 1);
  assert_int_equal(f.watch.set->number, 1);
  assert_int_equal(f.watch.set->count, 2);
  assert_int_equal(f.watch.set->list[0].publisher, 7);
  assert_int_equal(f.watch.set->list[0].fd, first);
  assert_int_equal(f.watch.set->list[1].fd, second);

  page_begin(&page, 2, false); /* the first is known, the second has gone */
  page_add(&page, 7, 1, false, 0);
  int third = add_fresh(&page, 3, 5);
  assert_int_equal(page_give(&page, &f.sets), 0);
  assert_true(is_open(second)); /* in use until the new set is */
  use(&f, 2);
  assert_false(is_open(second));
  assert_int_equal(f.watch.set->number, 2);
  assert_int_equal(f.watch.set->list[0].fd, first);
  assert_int_equal(f.watch.set->list[1].fd, third);

  page_begin(&page, 3, false); /* two sets come before one is used */
  int fourth = add_fresh(&page, 4, 6);
  assert_int_equal(page_give(&page, &f.sets), 0);
  page_begin(&page, 4, false);
  page_add(&page, 4, 6, false, 0);
  assert_int_equal(page_give(&page, &f.sets), 0);
  use(&f, 4);
  assert_int_equal(f.watch.set->count, 1);
  assert_int_equal(f.watch.set->list[0].fd, fourth);
  assert_false(is_open(first) || is_open(third));
  page_begin(&page, 5, false);
  assert_int_equal(page_give(&page, &f.sets), 0);
  use(&f, 5);
  assert_int_equal(f.watch.set->count, 0);
  assert_false(is_open(fourth));
  fixture_close(&f);
}

static void test_pages_make_one_set(void **state) {
  (void)state;
  struct fixture f;
  struct page page;
  fixture_open(&f);
  for (uint32_t i = 1; i <= 3; i++) {
    page_begin(&page, 8, i < 3);
    add_fresh(&page, i, i);
    assert_int_equal(page_give(&page, &f.sets), 0);
    use(&f, 8);
    if (i < 3) assert_null(f.watch.set); /* half a set is none */
  }
  assert_int_equal(f.watch.set->count, 3);
  for (uint32_t i = 0; i < 3; i++) assert_int_equal(f.watch.set->list[i].publisher, i + 1);
  fixture_close(&f);
}

static void test_refused_pages_leave_nothing(void **state) {
  (void)state;
  struct fixture f;
  struct page page;
  fixture_open(&f);
  page_begin(&page, 1, false); /* never sent */
  add_fresh(&page, 1, 1);
  page_add(&page, 2, 2, false, 0);
  assert_int_equal(page_give(&page, &f.sets), SLC_PROTOCOL);
  fixture_close(&f);

  fixture_open(&f); /* something else than a doorbell */
  page_begin(&page, 1, false);
  page_add(&page, 1, 1, true, SLOTCAST__DESCRIPTOR_KIND__CONTROL);
  assert_int_equal(page_give(&page, &f.sets), SLC_PROTOCOL);
  fixture_close(&f);

  fixture_open(&f); /* without its descriptor */
  page_begin(&page, 1, false);
  int fd = add_fresh(&page, 1, 1);
  page.message.n_descriptors = page.fds.count = 0;
  assert_int_equal(page_give(&page, &f.sets), SLC_PROTOCOL);
  close(fd);
  fixture_close(&f);

  fixture_open(&f); /* a page of another set */
  page_begin(&page, 1, true);
  add_fresh(&page, 1, 1);
  assert_int_equal(page_give(&page, &f.sets), 0);
  page_begin(&page, 2, false);
  assert_int_equal(page_give(&page, &f.sets), SLC_PROTOCOL);
  fixture_close(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sets_replace_each_other),
      cmocka_unit_test(test_pages_make_one_set),
      cmocka_unit_test(test_refused_pages_leave_nothing),
  };
  return cmocka_run_group_tests_name("client_watchers", tests, NULL, NULL);
}
