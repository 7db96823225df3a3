/* Panels below each other, each with a legend beside it.  What does not fit into the fixed numbers is left out.
 * Thread: main. */
#include "plot.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { PANELS = 4, LINES = 12, POINTS = 64, NAME_MAX_BYTES = 64 };
enum { LEFT = 80, TOP = 40, WIDTH = 560, HEIGHT = 260, LEGEND = 240, PANEL_HEIGHT = HEIGHT + 110 };

struct line {
  char name[NAME_MAX_BYTES];
  size_t count;
  double x[POINTS], y[POINTS];
};
struct panel {
  const char *title, *x_label, *y_label;
  enum plot_axis axis;
  size_t lines;
  struct line line[LINES];
};
struct plot {
  size_t panels, current;
  struct panel panel[PANELS];
};

struct plot *plot_new(void) {
  return calloc(1, sizeof(struct plot));
}
void plot_free(struct plot *plot) {
  free(plot);
}

/* ---- what is in it ---- */

void plot_panel(struct plot *plot, const char *title, const char *x_label, const char *y_label, enum plot_axis axis) {
  if (plot == NULL) return;
  for (size_t i = 0; i < plot->panels; i++) {
    if (strcmp(plot->panel[i].title, title) != 0) continue;
    plot->current = i;
    return;
  }
  if (plot->panels == PANELS) return;
  plot->current = plot->panels++;
  plot->panel[plot->current] = (struct panel){.title = title, .x_label = x_label, .y_label = y_label, .axis = axis};
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
  line->x[line->count] = x;
  line->y[line->count++] = y;
}

void plot_distribution(struct plot *plot, const char *line, const struct histogram *histogram) {
  if (plot == NULL) return;
  /* Ten steps for each nine, as long as there is anything left. */
  for (double left = 1; left * (double)histogram->count >= 1; left *= pow(10, -0.1))
    plot_point(plot, line, 1 - left, histogram_at(histogram, 1 - left));
}

/* ---- axes ---- */

struct scale {
  double low, high; /* of what is shown, after the logarithm if there is one */
  bool is_log;
};

static double scaled(const struct scale *scale, double value) {
  double shown = scale->is_log ? log10(value > 0 ? value : 1) : value;
  return (shown - scale->low) / (scale->high - scale->low);
}

enum { LINEAR_TICKS = 5 };

/* The end of a linear axis from 0 on whose ticks are round numbers. */
static double round_end(double most) {
  static const double steps[] = {1, 2, 2.5, 5, 10};
  double least_step = most / LINEAR_TICKS, magnitude = pow(10, floor(log10(least_step)));
  size_t i = 0;
  while (i + 1 < sizeof steps / sizeof steps[0] && steps[i] * magnitude < least_step) i++;
  return steps[i] * magnitude * LINEAR_TICKS;
}

/* Values that lie far apart are shown by their logarithms, others from 0 on. */
static struct scale y_scale(const struct panel *panel) {
  double least = 0, most = 0;
  for (size_t i = 0; i < panel->lines; i++) {
    for (size_t k = 0; k < panel->line[i].count; k++) {
      double y = panel->line[i].y[k];
      if (y > most) most = y;
      if (y > 0 && (least == 0 || y < least)) least = y;
    }
  }
  if (most == 0) return (struct scale){.low = 0, .high = 1};
  if (most < 20 * least) return (struct scale){.low = 0, .high = round_end(most)};
  return (struct scale){.low = floor(log10(least)), .high = ceil(log10(most)), .is_log = true};
}

struct steps {
  size_t count;
  double values[LINES * POINTS];
};

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* The values of x that occur, in order. */
static void steps_of(const struct panel *panel, struct steps *steps) {
  steps->count = 0;
  for (size_t i = 0; i < panel->lines; i++) {
    for (size_t k = 0; k < panel->line[i].count; k++) {
      double x = panel->line[i].x[k];
      size_t at = 0;
      while (at < steps->count && steps->values[at] != x) at++;
      if (at == steps->count) steps->values[steps->count++] = x;
    }
  }
  qsort(steps->values, steps->count, sizeof(double), compare);
}

enum { NINES_MAX = 6 };

/* Where x stands, 0 .. 1: one more nine of a quantile is always as far. */
static double x_place(const struct panel *panel, const struct steps *steps, double x) {
  if (panel->axis == PLOT_QUANTILES) {
    double nines = x < 1 ? -log10(1 - x) : NINES_MAX;
    return nines < NINES_MAX ? nines / NINES_MAX : 1;
  }
  size_t at = 0;
  while (at + 1 < steps->count && steps->values[at] != x) at++;
  return steps->count > 1 ? (double)at / (double)(steps->count - 1) : 0.5;
}

/* ---- SVG ---- */

static const char *short_number(double number, char text[32]) {
  static const char *const units[] = {"", "K", "M", "G"};
  int unit = 0;
  bool is_binary = number >= 1024 && fmod(number, 1024) == 0;
  double step = is_binary ? 1024 : 1000;
  for (; number >= step && unit < 3; unit++) number /= step;
  snprintf(text, 32, "%.4g%s%s", number, units[unit], is_binary ? "i" : "");
  return text;
}

static void write_text(FILE *out, double x, double y, const char *anchor, const char *text) {
  fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, text);
}

static void write_grid(FILE *out, double x1, double y1, double x2, double y2) {
  fprintf(out, "<path class=\"grid\" d=\"M%.1f %.1fL%.1f %.1f\"/>\n", x1, y1, x2, y2);
}

static void write_y_axis(FILE *out, const struct scale *scale, double top) {
  int ticks = scale->is_log ? (int)(scale->high - scale->low) : LINEAR_TICKS;
  for (int i = 0; i <= ticks; i++) {
    char text[32];
    double shown = scale->low + (scale->high - scale->low) * i / ticks, y = top + HEIGHT * (1 - (double)i / ticks);
    write_grid(out, LEFT, y, LEFT + WIDTH, y);
    write_text(out, LEFT - 8, y + 4, "end", short_number(scale->is_log ? pow(10, shown) : shown, text));
  }
}

static void write_x_axis(FILE *out, const struct panel *panel, const struct steps *steps, double top) {
  static const char *const nines[NINES_MAX + 1] = {"0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "all"};
  size_t ticks = panel->axis == PLOT_QUANTILES ? NINES_MAX + 1 : steps->count;
  for (size_t i = 0; i < ticks; i++) {
    char text[32];
    bool is_quantile = panel->axis == PLOT_QUANTILES;
    double place = is_quantile ? (double)i / NINES_MAX : x_place(panel, steps, steps->values[i]);
    write_grid(out, LEFT + place * WIDTH, top, LEFT + place * WIDTH, top + HEIGHT);
    write_text(out, LEFT + place * WIDTH, top + HEIGHT + 18, "middle",
               is_quantile ? nines[i] : short_number(steps->values[i], text));
  }
}

static void write_line(FILE *out, const struct panel *panel, size_t number, const struct scale *scale,
                       const struct steps *steps, double top) {
  static const char *const colours[LINES] = {"#1b6ca8", "#999999", "#d1495b", "#66a182", "#edae49", "#6a4c93",
                                             "#00798c", "#8d5b4c", "#2e4057", "#c77dff", "#606c38", "#e07a5f"};
  const struct line *line = &panel->line[number];
  fprintf(out, "<polyline stroke=\"%s\" points=\"", colours[number]);
  for (size_t i = 0; i < line->count; i++)
    fprintf(out, "%.1f,%.1f ", LEFT + x_place(panel, steps, line->x[i]) * WIDTH,
            top + HEIGHT * (1 - scaled(scale, line->y[i])));
  fprintf(out, "\"/>\n");
  double y = top + 10 + 20.0 * (double)number;
  fprintf(out, "<path stroke=\"%s\" stroke-width=\"3\" d=\"M%d %.1fh20\"/>\n", colours[number], LEFT + WIDTH + 16, y);
  write_text(out, LEFT + WIDTH + 42, y + 4, "start", line->name);
}

static void write_panel(FILE *out, const struct panel *panel, struct steps *steps, double top) {
  struct scale scale = y_scale(panel);
  steps_of(panel, steps);
  fprintf(out, "<text class=\"title\" x=\"%d\" y=\"%.1f\">%s</text>\n", LEFT, top - 14, panel->title);
  write_y_axis(out, &scale, top);
  write_x_axis(out, panel, steps, top);
  write_text(out, LEFT + WIDTH / 2.0, top + HEIGHT + 40, "middle", panel->x_label);
  fprintf(out, "<text text-anchor=\"middle\" transform=\"translate(16 %.1f) rotate(-90)\">%s</text>\n",
          top + HEIGHT / 2.0, panel->y_label);
  for (size_t i = 0; i < panel->lines; i++) write_line(out, panel, i, &scale, steps, top);
}

static int write_all(const struct plot *plot, FILE *out) {
  struct steps *steps = calloc(1, sizeof *steps);
  if (steps == NULL) return -1;
  int width = LEFT + WIDTH + LEGEND, height = (int)plot->panels * PANEL_HEIGHT + 10;
  fprintf(out,
          "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n"
          "<style>text{font:12px sans-serif;fill:#222}.title{font-size:15px;font-weight:bold}\n"
          ".grid{stroke:#ddd}polyline{fill:none;stroke-width:2}</style>\n"
          "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
          width, height, width, height);
  for (size_t i = 0; i < plot->panels; i++) write_panel(out, &plot->panel[i], steps, TOP + (double)i * PANEL_HEIGHT);
  fputs("</svg>\n", out);
  free(steps);
  return ferror(out) != 0 ? -1 : 0;
}

int plot_write(const struct plot *plot, const char *path) {
  if (plot == NULL) return EXIT_OK;
  FILE *out = fopen(path, "we");
  if (out == NULL) return fail(EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
  int result = write_all(plot, out);
  if (fclose(out) != 0 || result != 0) return fail(EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
  return EXIT_OK;
}
