/* A caption, and panels below each other, each with a legend beside it.  What does not fit into the fixed numbers is
 * left out. Thread: main. */
#include "plot.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

enum { PANELS = 4, LINES = 12, POINTS = 128, NAME_MAX_BYTES = 64 };
enum { LEFT = 90, TOP = 84, WIDTH = 600, HEIGHT = 280, LEGEND = 350, PANEL_HEIGHT = HEIGHT + 110 };

struct line {
  char name[NAME_MAX_BYTES];
  bool is_limit;
  size_t count;
  double x[POINTS], y[POINTS];
};
struct panel {
  struct plot_kind kind;
  size_t lines;
  struct line line[LINES];
};
struct plot {
  const char *path;
  int fd;       /* -1: written, or not open */
  bool is_made; /* by us */
  size_t panels, current;
  struct panel panel[PANELS];
};

int plot_open(const char *path, struct plot **ret_plot) {
  struct plot *plot = calloc(1, sizeof *plot);
  if (plot == NULL) return fail(EXIT_FAILED, "there is no memory for the plot");
  plot->path = path;
  plot->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  plot->is_made = plot->fd >= 0;
  if (plot->fd < 0 && errno == EEXIST) plot->fd = open(path, O_WRONLY | O_CLOEXEC);
  if (plot->fd < 0) {
    int error = errno;
    plot_free(plot);
    return fail(EXIT_FAILED, "cannot write '%s': %s", path, strerror(error));
  }
  *ret_plot = plot;
  return EXIT_OK;
}
void plot_free(struct plot *plot) {
  if (plot == NULL) return;
  if (plot->fd >= 0) {
    close(plot->fd);
    if (plot->is_made) unlink(plot->path);
  }
  free(plot);
}

/* ---- what is in it ---- */

void plot_panel(struct plot *plot, const struct plot_kind *kind) {
  if (plot == NULL) return;
  for (size_t i = 0; i < plot->panels; i++) {
    if (strcmp(plot->panel[i].kind.title, kind->title) != 0) continue;
    plot->current = i;
    return;
  }
  if (plot->panels == PANELS) return;
  plot->current = plot->panels++;
  plot->panel[plot->current].kind = *kind;
}

static struct line *line_named(struct panel *panel, const char *name) {
  for (size_t i = 0; i < panel->lines; i++) {
    if (strcmp(panel->line[i].name, name) == 0) return &panel->line[i];
  }
  if (panel->lines == LINES) return NULL;
  struct line *line = &panel->line[panel->lines++];
  snprintf(line->name, sizeof line->name, "%s", name);
  return line;
}

void plot_point(struct plot *plot, const char *name, double x, double y) {
  if (plot == NULL || plot->panels == 0) return;
  struct line *line = line_named(&plot->panel[plot->current], name);
  if (line == NULL || line->count == POINTS) return;
  size_t at = line->count++;
  for (; at > 0 && line->x[at - 1] > x; at--) {
    line->x[at] = line->x[at - 1];
    line->y[at] = line->y[at - 1];
  }
  line->x[at] = x;
  line->y[at] = y;
}

void plot_limit(struct plot *plot, const char *name) {
  if (plot == NULL || plot->panels == 0) return;
  struct line *line = line_named(&plot->panel[plot->current], name);
  if (line != NULL) line->is_limit = true;
}

void plot_distribution(struct plot *plot, const char *line, const struct histogram *histogram) {
  if (plot == NULL) return;
  /* Ten steps for each nine, as long as there is anything left. */
  for (double left = 1; left * (double)histogram->count >= 1; left *= pow(10, -0.1))
    plot_point(plot, line, 1 - left, histogram_at(histogram, 1 - left));
}

/* ---- axes ---- */

enum { TICKS_MAX = LINES * POINTS, LINEAR_TICKS = 5 };

/* Where values stand: 0 .. 1 from end to end.  Ticks are in ascending order. */
struct axis {
  enum { AXIS_LINEAR, AXIS_LOG, AXIS_STEPS, AXIS_NINES } scale;
  double low, high; /* its ends; AXIS_NINES: in nines; AXIS_STEPS: none */
  size_t count;
  double ticks[TICKS_MAX];
};

/* How many nines a quantile has: one more is always as far. */
static double nines_of(double part) {
  return -log10(1 - part);
}

static double place_of(const struct axis *axis, double value) {
  size_t at = 0;
  switch (axis->scale) {
  case AXIS_LINEAR:
    return (value - axis->low) / (axis->high - axis->low);
  case AXIS_LOG:
    return value > axis->low ? log(value / axis->low) / log(axis->high / axis->low) : 0;
  case AXIS_STEPS:
    while (at + 1 < axis->count && axis->ticks[at] != value) at++;
    return axis->count > 1 ? (double)at / (double)(axis->count - 1) : 0.5;
  case AXIS_NINES:
    return nines_of(value) / axis->high;
  }
  return 0;
}

static void tick(struct axis *axis, double value) {
  if (axis->count < TICKS_MAX) axis->ticks[axis->count++] = value;
}

/* From 0 to a round number, with ticks at such. */
static void make_linear(struct axis *axis, double most) {
  static const double steps[] = {1, 2, 2.5, 5, 10};
  double least_step = (most > 0 ? most : 1) / LINEAR_TICKS, magnitude = pow(10, floor(log10(least_step)));
  size_t i = 0;
  while (i + 1 < sizeof steps / sizeof steps[0] && steps[i] * magnitude < least_step * 0.999) i++;
  axis->scale = AXIS_LINEAR;
  do {
    axis->high = steps[i] * magnitude * (double)axis->count;
    tick(axis, axis->high);
  } while (axis->count <= LINEAR_TICKS && (axis->high < most || axis->count < 2));
}

/* Ticks at 1, 2 and 5 of every power of ten, from the last one below the least to the first one above the most. */
static void make_log(struct axis *axis, double least, double most) {
  static const double steps[] = {1, 2, 5};
  axis->scale = AXIS_LOG;
  for (double decade = pow(10, floor(log10(least))); axis->high < most; decade *= 10) {
    for (size_t i = 0; i < sizeof steps / sizeof steps[0] && axis->high < most; i++) {
      axis->high = steps[i] * decade;
      if (axis->high <= least) axis->count = 0;
      tick(axis, axis->high);
    }
  }
  axis->low = axis->ticks[0];
}

/* The values of y, or those of x, and what they are between. */
struct range {
  double least, most; /* least: but 0 */
};
static struct range range_of(const struct panel *panel, bool is_x) {
  struct range range = {0, 0};
  for (size_t i = 0; i < panel->lines; i++) {
    for (size_t k = 0; k < panel->line[i].count; k++) {
      double value = is_x ? panel->line[i].x[k] : panel->line[i].y[k];
      if (value > range.most) range.most = value;
      if (value > 0 && (range.least == 0 || value < range.least)) range.least = value;
    }
  }
  return range;
}

/* Values that lie far apart are shown by their logarithms, others from 0 on. */
static void make_y(const struct panel *panel, struct axis *axis) {
  enum { FAR_APART = 20 };
  struct range range = range_of(panel, false);
  *axis = (struct axis){.count = 0};
  if (panel->kind.y_unit != PLOT_PER_CENT && range.most > FAR_APART * range.least)
    make_log(axis, range.least, range.most);
  else
    make_linear(axis, range.most);
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* A tick at every value that occurs. */
static void make_steps(const struct panel *panel, struct axis *axis) {
  axis->scale = AXIS_STEPS;
  for (size_t i = 0; i < panel->lines; i++) {
    for (size_t k = 0; k < panel->line[i].count; k++) {
      size_t at = 0;
      while (at < axis->count && axis->ticks[at] != panel->line[i].x[k]) at++;
      if (at == axis->count) tick(axis, panel->line[i].x[k]);
    }
  }
  qsort(axis->ticks, axis->count, sizeof(double), compare);
}

/* As far as there is anything, with a tick at the median and at each nine. */
static void make_nines(struct axis *axis, double most) {
  axis->scale = AXIS_NINES;
  axis->high = most > 0 && most < 1 ? nines_of(most) : 1;
  tick(axis, 0);
  tick(axis, 0.5);
  for (int i = 1; i <= axis->high; i++) tick(axis, 1 - pow(10, -i));
}

static void make_x(const struct panel *panel, struct axis *axis) {
  double most = range_of(panel, true).most;
  *axis = (struct axis){.count = 0};
  switch (panel->kind.axis) {
  case PLOT_QUANTILES:
    make_nines(axis, most);
    break;
  case PLOT_STEPS:
    make_steps(panel, axis);
    break;
  case PLOT_NUMBERS: /* it ends where they do */
    make_linear(axis, most);
    while (axis->ticks[axis->count - 1] > most) axis->count--;
    axis->high = most;
    break;
  }
}

/* ---- the words at the ticks ---- */

/* "1.5 M" and the like: as many as fit of the steps between units. */
static void in_units(double number, double step, const char *const *units, char text[32]) {
  int unit = 0;
  for (; number >= step * 0.9999 && units[unit + 1] != NULL; unit++) number /= step;
  snprintf(text, 32, "%.4g%s%s", number, units[unit][0] != '\0' ? " " : "", units[unit]);
}

static const char *tick_text(double value, enum plot_unit unit, char text[32]) {
  static const char *const counts[] = {"", "K", "M", "G", NULL}, *const times[] = {"ns", "µs", "ms", "s", NULL},
                           *const bytes[] = {"B", "KiB", "MiB", "GiB", NULL};
  switch (unit) {
  case PLOT_NS:
    in_units(value, 1000, times, text);
    break;
  case PLOT_BYTES:
    in_units(value, 1024, bytes, text);
    break;
  case PLOT_RATE:
    in_units(value, 1000, counts, text);
    break;
  case PLOT_PER_CENT:
    snprintf(text, 32, "%.4g %%", value);
    break;
  case PLOT_COUNT:
    if (value < 100000) /* slots are powers of two, and known by their figures */
      snprintf(text, 32, "%.6g", value);
    else
      in_units(value, 1000, counts, text);
    break;
  }
  return text;
}

const char *plot_size(uint64_t size, char text[32]) {
  return tick_text((double)size, PLOT_BYTES, text);
}

/* ---- SVG ---- */

static void write_text(FILE *out, double x, double y, const char *anchor, const char *text) {
  fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, text);
}

static void write_grid(FILE *out, double x1, double y1, double x2, double y2) {
  fprintf(out, "<path class=\"grid\" d=\"M%.1f %.1fL%.1f %.1f\"/>\n", x1, y1, x2, y2);
}

static bool is_power_of_ten(double value) {
  double power = log10(value);
  return fabs(power - round(power)) < 1e-9;
}

static void write_y_axis(FILE *out, const struct panel *panel, const struct axis *axis, double top) {
  enum { WORDS_MAX = 16 }; /* above each other: else at the powers of ten alone */
  for (size_t i = 0; i < axis->count; i++) {
    char text[32];
    double y = top + HEIGHT * (1 - place_of(axis, axis->ticks[i]));
    write_grid(out, LEFT, y, LEFT + WIDTH, y);
    if (axis->count > WORDS_MAX && !is_power_of_ten(axis->ticks[i])) continue;
    write_text(out, LEFT - 8, y + 4, "end", tick_text(axis->ticks[i], panel->kind.y_unit, text));
  }
}

static const char *x_text(const struct panel *panel, double value, char text[32]) {
  if (panel->kind.axis != PLOT_QUANTILES) return tick_text(value, panel->kind.x_unit, text);
  snprintf(text, 32, "%.6g %%", 100 * value);
  return text;
}

static void write_x_axis(FILE *out, const struct panel *panel, const struct axis *axis, double top) {
  enum { WORDS_MAX = 11 }; /* beside each other */
  size_t every = axis->count / (WORDS_MAX + 1) + 1;
  for (size_t i = 0; i < axis->count; i++) {
    char text[32];
    double x = LEFT + place_of(axis, axis->ticks[i]) * WIDTH;
    write_grid(out, x, top, x, top + HEIGHT);
    if (i % every == 0) write_text(out, x, top + HEIGHT + 18, "middle", x_text(panel, axis->ticks[i], text));
  }
}

/* How a line looks: each has a colour that people with any eyes can tell from the others, on white; what the machine
 * does is grey, and each such line has dashes of its own. */
struct look {
  const char *colour, *dashes;
  size_t place; /* in the legend, where the machine comes last */
};

static struct look look_of(const struct panel *panel, size_t number) {
  static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
                                        "#5e3c99", "#8c510a", "#01665e", "#c51b7d", "#7f7f00", "#000000"};
  static const char *const dashes[] = {"7 4", "2 3"};
  _Static_assert(sizeof colours / sizeof colours[0] == LINES, "a colour for each line");
  size_t ours = 0, before[2] = {0, 0};
  for (size_t i = 0; i < panel->lines; i++) {
    ours += !panel->line[i].is_limit;
    if (i < number) before[panel->line[i].is_limit]++;
  }
  if (panel->line[number].is_limit) return (struct look){"#777777", dashes[before[1] % 2], ours + before[1]};
  return (struct look){colours[before[0]], "none", before[0]};
}

static void write_line(FILE *out, const struct panel *panel, size_t number, const struct axis *x_axis,
                       const struct axis *y_axis, double top) {
  const struct line *line = &panel->line[number];
  struct look look = look_of(panel, number);
  fprintf(out, "<polyline stroke=\"%s\" stroke-dasharray=\"%s\" points=\"", look.colour, look.dashes);
  for (size_t i = 0; i < line->count; i++)
    fprintf(out, "%.1f,%.1f ", LEFT + place_of(x_axis, line->x[i]) * WIDTH,
            top + HEIGHT * (1 - place_of(y_axis, line->y[i])));
  fprintf(out, "\"/>\n");
  for (size_t i = 0; i < line->count && panel->kind.axis == PLOT_STEPS; i++)
    fprintf(out, "<circle fill=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>\n", look.colour,
            LEFT + place_of(x_axis, line->x[i]) * WIDTH, top + HEIGHT * (1 - place_of(y_axis, line->y[i])));
  double y = top + 10 + 20.0 * (double)look.place;
  fprintf(out, "<path class=\"key\" stroke=\"%s\" stroke-dasharray=\"%s\" d=\"M%d %.1fh24\"/>\n", look.colour,
          look.dashes, LEFT + WIDTH + 24, y);
  write_text(out, LEFT + WIDTH + 56, y + 4, "start", line->name);
}

struct axes {
  struct axis x, y;
};

static void write_panel(FILE *out, const struct panel *panel, struct axes *axes, double top) {
  make_x(panel, &axes->x);
  make_y(panel, &axes->y);
  fprintf(out, "<text class=\"title\" x=\"%d\" y=\"%.1f\">%s</text>\n", LEFT, top - 14, panel->kind.title);
  write_y_axis(out, panel, &axes->y, top);
  write_x_axis(out, panel, &axes->x, top);
  write_text(out, LEFT + WIDTH / 2.0, top + HEIGHT + 40, "middle", panel->kind.x_label);
  fprintf(out, "<text text-anchor=\"middle\" transform=\"translate(18 %.1f) rotate(-90)\">%s</text>\n",
          top + HEIGHT / 2.0, panel->kind.y_label);
  for (size_t i = 0; i < panel->lines; i++) write_line(out, panel, i, &axes->x, &axes->y, top);
  fprintf(out, "<path class=\"axes\" d=\"M%d %.1fv%dh%d\"/>\n", LEFT, top, HEIGHT, WIDTH);
}

/* Steps of which there is one say nothing that the table does not say, unless there is nothing else. */
static bool is_shown(const struct plot *plot, const struct panel *panel) {
  if (panel->kind.axis != PLOT_STEPS || plot->panels == 1) return true;
  for (size_t i = 0; i < panel->lines; i++) {
    for (size_t k = 0; k < panel->line[i].count; k++) {
      if (panel->line[i].x[k] != panel->line[0].x[0]) return true;
    }
  }
  return false;
}

static int write_all(const struct plot *plot, const char *caption, FILE *out) {
  struct axes *axes = calloc(1, sizeof *axes);
  if (axes == NULL) return -1;
  int shown = 0, width = LEFT + WIDTH + LEGEND;
  for (size_t i = 0; i < plot->panels; i++) shown += is_shown(plot, &plot->panel[i]);
  int height = TOP + shown * PANEL_HEIGHT - 40;
  fprintf(out,
          "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n"
          "<style>text{font:12px sans-serif;fill:#222}.title{font-size:15px;font-weight:bold}\n"
          "path,polyline{fill:none}.grid{stroke:#ddd}.axes{stroke:#666}\n"
          "polyline,.key{stroke-width:2;stroke-linejoin:round}</style>\n"
          "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
          width, height, width, height);
  write_text(out, LEFT, 28, "start", caption);
  double top = TOP;
  for (size_t i = 0; i < plot->panels; i++) {
    if (!is_shown(plot, &plot->panel[i])) continue;
    write_panel(out, &plot->panel[i], axes, top);
    top += PANEL_HEIGHT;
  }
  fputs("</svg>\n", out);
  free(axes);
  return ferror(out) != 0 ? -1 : 0;
}

int plot_write(struct plot *plot, const char *caption) {
  if (plot == NULL) return EXIT_OK;
  /* Nothing is left of what was there; a pipe or a device has nothing. */
  bool is_empty = ftruncate(plot->fd, 0) == 0 || errno == EINVAL;
  FILE *out = is_empty ? fdopen(plot->fd, "w") : NULL;
  if (out == NULL) return fail(EXIT_FAILED, "cannot write '%s': %s", plot->path, strerror(errno));
  plot->fd = -1;
  int result = write_all(plot, caption, out);
  if (fclose(out) != 0 || result != 0) return fail(EXIT_FAILED, "cannot write '%s': %s", plot->path, strerror(errno));
  return EXIT_OK;
}
