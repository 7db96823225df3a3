/* Membership pages: whole sets, what stays, what goes, and what must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "membership.h"
#include "slotcast/status.h"
#include "support/leaks.h"

#define LINES 8
#define ENTRIES_MAX 4

/* A page as the broker would send it, built entry by entry. */
struct page {
  Slotcast__Message message;
  Slotcast__Membership body;
  Slotcast__Table tables[ENTRIES_MAX];
  Slotcast__Doorbell doorbells[ENTRIES_MAX];
  Slotcast__Process processes[ENTRIES_MAX];
  Slotcast__Descriptor descriptors[3 * ENTRIES_MAX];
  Slotcast__Table *table_list[ENTRIES_MAX];
  Slotcast__Doorbell *doorbell_list[ENTRIES_MAX];
  Slotcast__Process *process_list[ENTRIES_MAX];
  Slotcast__Descriptor *descriptor_list[3 * ENTRIES_MAX];
  uint8_t lines[LINES];
  struct slc__fds fds;
};

static struct slc__origin origin = {.session = "0123456789abcde"};

static void page_begin(struct page *page, uint64_t epoch, bool more) {
  memset(page, 0, sizeof *page);
  slotcast__message__init(&page->message);
  slotcast__membership__init(&page->body);
  slc__fds_init(&page->fds);
  page->message.descriptors = page->descriptor_list;
  page->message.body_case = SLOTCAST__MESSAGE__BODY_MEMBERSHIP;
  page->message.membership = &page->body;
  page->body.epoch = epoch;
  page->body.more = more;
  page->body.tables = page->table_list;
  page->body.doorbells = page->doorbell_list;
  page->body.processes = page->process_list;
  memset(page->lines, 2, sizeof page->lines);
}

static void page_descriptor(struct page *page, int fd, Slotcast__DescriptorKind kind, uint64_t size, bool writable) {
  Slotcast__Descriptor *entry = &page->descriptors[page->message.n_descriptors];
  slotcast__descriptor__init(entry);
  entry->kind = kind;
  entry->size = size;
  entry->writable = writable;
  page->descriptor_list[page->message.n_descriptors++] = entry;
  page->fds.fd[page->fds.count++] = fd;
}

static void page_table(struct page *page, uint32_t id, bool fresh) {
  Slotcast__Table *entry = &page->tables[page->body.n_tables];
  slotcast__table__init(entry);
  entry->id = id;
  entry->fresh = fresh;
  entry->lines.data = page->lines;
  entry->lines.len = LINES;
  page->table_list[page->body.n_tables++] = entry;
  if (!fresh) return;
  int table, bell, read_only;
  uint64_t size = slc__layout_table_size(LINES);
  assert_int_equal(
      slc__object_create(slc__memory_plain(SLC__BACKEND_MEMFD), SLC__OBJECT_TABLE, size, origin.session, &table), 0);
  assert_int_equal(slc__object_reopen_read_only(table, &read_only), 0);
  close(table);
  assert_int_equal(slc__object_create(slc__memory_plain(SLC__BACKEND_MEMFD), SLC__OBJECT_BELL, slc__layout_bell_size(),
                                      origin.session, &bell),
                   0);
  page_descriptor(page, read_only, SLOTCAST__DESCRIPTOR_KIND__TABLE, size, false);
  page_descriptor(page, bell, SLOTCAST__DESCRIPTOR_KIND__BELL, slc__layout_bell_size(), true);
}

static void page_doorbell(struct page *page, uint32_t id, uint32_t table, uint32_t line, bool fresh) {
  Slotcast__Doorbell *entry = &page->doorbells[page->body.n_doorbells];
  slotcast__doorbell__init(entry);
  entry->id = id;
  entry->table = table;
  entry->line = line;
  entry->fresh = fresh;
  page->doorbell_list[page->body.n_doorbells++] = entry;
  if (fresh) page_descriptor(page, dup(STDERR_FILENO), SLOTCAST__DESCRIPTOR_KIND__DOORBELL, 0, true);
}

static int pidfd_of(pid_t pid) {
  int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
  assert_true(pidfd >= 0);
  return pidfd;
}

/* `pid` of 0: it is known already. */
static void page_process(struct page *page, uint32_t id, uint32_t table, uint32_t line, pid_t pid) {
  Slotcast__Process *entry = &page->processes[page->body.n_processes];
  slotcast__process__init(entry);
  entry->id = id;
  entry->table = table;
  entry->line = line;
  entry->fresh = pid != 0;
  page->process_list[page->body.n_processes++] = entry;
  if (pid != 0) page_descriptor(page, pidfd_of(pid), SLOTCAST__DESCRIPTOR_KIND__PROCESS, 0, true);
}

static int page_give(struct page *page, struct slc__members *members) {
  struct slc__received received = {
      .message = &page->message, .fds = &page->fds, .origin = &origin, .memory = slc__memory_plain(SLC__BACKEND_MEMFD)};
  int status = slc__members_page(members, &page->body, &received);
  slc__fds_deinit(&page->fds);
  return status;
}

static const struct slc__membership *adopt(struct slc__members *members) {
  struct slc__member_set *old;
  const struct slc__membership *view = slc__members_adopt(members, &old);
  slc__member_set_free(old);
  return view;
}

static void test_membership_in_pages(void **state) {
  struct slc__members *members = *state;
  struct page page;
  page_begin(&page, 5, true);
  page_table(&page, 1, true);
  assert_int_equal(page_give(&page, members), 0);
  assert_false(slc__members_pending(members, 0)); /* not whole yet */
  page_begin(&page, 5, false);
  page_table(&page, 2, true);
  page_doorbell(&page, 9, 1, 3, true); /* of a table of the page before */
  assert_int_equal(page_give(&page, members), 0);
  assert_true(slc__members_pending(members, 5));
  assert_false(slc__members_pending(members, 6));
  const struct slc__membership *view = adopt(members);
  assert_int_equal(view->epoch, 5);
  assert_int_equal(view->table_count, 2);
  assert_int_equal(view->tables[1].id, 2);
  assert_int_equal(view->tables[1].line_count, LINES);
  assert_int_equal(view->doorbell_count, 1);
  assert_int_equal(view->doorbells[0].table, 0);
  assert_int_equal(view->doorbells[0].line, 3);
}

static void test_membership_keeps_and_drops(void **state) {
  struct slc__members *members = *state;
  struct page page;
  page_begin(&page, 1, false);
  page_table(&page, 1, true);
  page_table(&page, 2, true);
  page_doorbell(&page, 9, 2, 0, true);
  assert_int_equal(page_give(&page, members), 0);
  const struct slc__membership *view = adopt(members);
  const void *kept = view->tables[1].table;
  int doorbell = view->doorbells[0].fd;
  page_begin(&page, 2, false); /* 1 has gone; nobody uses this set before the next comes */
  page_table(&page, 2, false);
  page_doorbell(&page, 9, 2, 0, false);
  assert_int_equal(page_give(&page, members), 0);
  page_begin(&page, 3, false);
  page_table(&page, 3, true);
  page_table(&page, 2, false);
  page_doorbell(&page, 9, 2, 1, false);
  assert_int_equal(page_give(&page, members), 0);
  assert_true(slc__members_pending(members, 3));
  view = adopt(members);
  assert_int_equal(view->table_count, 2);
  assert_ptr_equal(view->tables[1].table, kept);
  assert_int_equal(view->doorbells[0].fd, doorbell);
  assert_int_equal(view->doorbells[0].table, 1);
  page_begin(&page, 4, false); /* nobody any more */
  assert_int_equal(page_give(&page, members), 0);
  view = adopt(members);
  assert_int_equal(view->table_count + view->doorbell_count, 0);
}

/* Two lines of a process that dies and one of another; the second set knows both processes from the first. */
static void test_membership_forgets_the_dead(void **state) {
  struct slc__members *members = *state;
  struct page page;
  pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  for (uint64_t epoch = 1; epoch <= 2; epoch++) {
    page_begin(&page, epoch, false);
    memset(page.lines, SLC__SCAN_RELIABLE | 2, sizeof page.lines);
    page_table(&page, 1, epoch == 1);
    page_process(&page, 7, 1, 0, epoch == 1 ? child : 0);
    page_process(&page, 8, 1, 1, epoch == 1 ? getpid() : 0);
    page_process(&page, 7, 1, 2, 0);
    assert_int_equal(page_give(&page, members), 0);
  }
  const struct slc__membership *view = adopt(members);
  assert_false(slc__members_forget_dead(members));
  kill(child, SIGKILL);
  assert_int_equal(waitpid(child, NULL, 0), child);
  assert_true(slc__members_forget_dead(members));
  assert_int_equal(view->tables[0].lines[0], 2);
  assert_int_equal(view->tables[0].lines[1], SLC__SCAN_RELIABLE | 2);
  assert_int_equal(view->tables[0].lines[2], 2);
  assert_false(slc__members_forget_dead(members));
}

static void test_membership_refuses_an_unknown_process(void **state) {
  struct slc__members *members = *state;
  struct page page;
  page_begin(&page, 1, false);
  page_table(&page, 1, true);
  page_process(&page, 7, 1, 0, 0);
  assert_int_equal(page_give(&page, members), SLC_PROTOCOL);
}

/* A channel that nobody has ever joined. */
static void test_membership_of_epoch_zero(void **state) {
  struct slc__members *members = *state;
  struct page page;
  page_begin(&page, 0, false);
  assert_int_equal(page_give(&page, members), 0);
  assert_true(slc__members_pending(members, 0));
  assert_int_equal(adopt(members)->table_count, 0);
}

static void test_membership_refuses_what_was_never_sent(void **state) {
  struct slc__members *members = *state;
  struct page page;
  page_begin(&page, 1, false);
  page_table(&page, 1, false);
  assert_int_equal(page_give(&page, members), SLC_PROTOCOL);
}

static void test_membership_refuses_a_missing_descriptor(void **state) {
  struct slc__members *members = *state;
  struct page page;
  page_begin(&page, 1, false);
  page_table(&page, 1, true);
  close(page.fds.fd[--page.fds.count]);
  page.message.n_descriptors--;
  assert_int_equal(page_give(&page, members), SLC_PROTOCOL);
}

static void test_membership_refuses_another_kind(void **state) {
  struct slc__members *members = *state;
  struct page page;
  page_begin(&page, 1, false);
  page_table(&page, 1, true);
  page.descriptors[1].kind = SLOTCAST__DESCRIPTOR_KIND__DOORBELL;
  assert_int_equal(page_give(&page, members), SLC_PROTOCOL);
}

static void test_membership_refuses_too_many_lines(void **state) {
  struct slc__members *members = *state;
  struct page page;
  uint8_t many[SLC__PAGE] = {0};
  page_begin(&page, 1, false);
  page_table(&page, 1, true);
  page.tables[0].lines.data = many;
  page.tables[0].lines.len = sizeof many;
  assert_int_equal(page_give(&page, members), SLC_PROTOCOL);
}

static void test_membership_refuses_too_many_holds(void **state) {
  struct slc__members *members = *state;
  struct page page;
  page_begin(&page, 1, false);
  page_table(&page, 1, true);
  page.lines[0] = SLC__LINE_HOLDS + 1;
  assert_int_equal(page_give(&page, members), SLC_PROTOCOL);
}

static void test_membership_refuses_a_doorbell_of_no_line(void **state) {
  struct slc__members *members = *state;
  struct page page;
  page_begin(&page, 1, false);
  page_table(&page, 1, true);
  page_doorbell(&page, 9, 1, LINES, true);
  assert_int_equal(page_give(&page, members), SLC_PROTOCOL);
}

static void test_membership_refuses_mixed_epochs(void **state) {
  struct slc__members *members = *state;
  struct page page;
  page_begin(&page, 1, true);
  assert_int_equal(page_give(&page, members), 0);
  page_begin(&page, 2, false);
  assert_int_equal(page_give(&page, members), SLC_PROTOCOL);
}

/* Whatever a test did, nothing is left after deinit. */
static struct test_leaks leaks;
static struct slc__members all_members;

static int setup(void **state) {
  test_leaks_note(&leaks);
  all_members = (struct slc__members){0};
  *state = &all_members;
  return 0;
}

static int teardown(void **state) {
  slc__members_deinit(*state);
  return test_leaks_check(&leaks);
}

#define MEMBERS_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      MEMBERS_TEST(test_membership_in_pages),
      MEMBERS_TEST(test_membership_keeps_and_drops),
      MEMBERS_TEST(test_membership_forgets_the_dead),
      MEMBERS_TEST(test_membership_refuses_an_unknown_process),
      MEMBERS_TEST(test_membership_of_epoch_zero),
      MEMBERS_TEST(test_membership_refuses_what_was_never_sent),
      MEMBERS_TEST(test_membership_refuses_a_missing_descriptor),
      MEMBERS_TEST(test_membership_refuses_another_kind),
      MEMBERS_TEST(test_membership_refuses_too_many_lines),
      MEMBERS_TEST(test_membership_refuses_too_many_holds),
      MEMBERS_TEST(test_membership_refuses_a_doorbell_of_no_line),
      MEMBERS_TEST(test_membership_refuses_mixed_epochs),
  };
  return cmocka_run_group_tests_name("client_membership", tests, NULL, NULL);
}
