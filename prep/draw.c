#include "prep/draw.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>

/* ---- shapes: which points of the plane belong to it; the unit circle holds each of them ---- */

enum { KINDS = 10, CORNERS = 12 };

struct shape {
    const char *name;
    bool (*inside)(double x, double y); /* NULL: the polygon */
    int corners;
    double x[CORNERS], y[CORNERS];
};

static bool in_disc(double x, double y)
{
    return x * x + y * y < 1;
}

static bool in_ring(double x, double y)
{
    double r = x * x + y * y;
    return r < 1 && r > 0.36;
}

static bool in_crescent(double x, double y)
{
    double dx = x - 0.5;
    return x * x + y * y < 1 && dx * dx + y * y > 0.64;
}

/* Two discs side by side that touch. */
static bool in_pair(double x, double y)
{
    double dx = (x < 0 ? -x : x) - 0.52;
    return dx * dx + y * y < 0.27;
}

static const struct shape shapes[KINDS] = {
    {"disc",          in_disc,     0,  {0},                              {0}                                       },
    {"bar",           NULL,        4,  {-1, 1, 1, -1},                   {-0.45, -0.45, 0.45, 0.45}                },
    {"cross",
     NULL,                         12,
     {-0.33, 0.33, 0.33, 1, 1, 0.33, 0.33, -0.33, -0.33, -1, -1, -0.33},
     {-1, -1, -0.33, -0.33, 0.33, 0.33, 1, 1, 0.33, 0.33, -0.33, -0.33}                                            },
    {"ring",          in_ring,     0,  {0},                              {0}                                       },
    {"star",
     NULL,                         10,
     {0, 0.235, 0.951, 0.380, 0.588, 0, -0.588, -0.380, -0.951, -0.235},
     {-1, -0.324, -0.309, 0.124, 0.809, 0.4, 0.809, 0.124, -0.309, -0.324}                                         },
    {"triangle",      NULL,        3,  {0, 0.92, -0.92},                 {-1, 0.75, 0.75}                          },
    {"crescent",      in_crescent, 0,  {0},                              {0}                                       },
    {"arrow",         NULL,        7,  {1, 0.1, 0.1, -1, -1, 0.1, 0.1},  {0, 0.85, 0.35, 0.35, -0.35, -0.35, -0.85}},
    {"square",        NULL,        4,  {-0.8, 0.8, 0.8, -0.8},           {-0.8, -0.8, 0.8, 0.8}                    },
    {"pair of discs", in_pair,     0,  {0},                              {0}                                       },
};

static bool in_shape(const struct shape *shape, double x, double y)
{
    if (shape->inside)
        return shape->inside(x, y);
    bool in = false;
    for (int i = 0, j = shape->corners - 1; i < shape->corners; j = i++) {
        double xi = shape->x[i], yi = shape->y[i], xj = shape->x[j], yj = shape->y[j];
        if ((yi > y) != (yj > y) && x < (xj - xi) * (y - yi) / (yj - yi) + xi)
            in = !in;
    }
    return in;
}

/* ---- textures: how much of its second colour a point of a shape has ---- */

/* The place of V in a pattern of period 1, in [0, 1). V > -100. */
static double phase(double v)
{
    return v + 100 - (int)(v + 100);
}

static double plain(double x, double y)
{
    (void)x;
    (void)y;
    return 0;
}

static double striped(double x, double y)
{
    (void)x;
    return phase(y * 2.2) < 0.5;
}

static double checked(double x, double y)
{
    return (phase(x * 1.3) < 0.5) != (phase(y * 1.3) < 0.5);
}

static double dotted(double x, double y)
{
    double dx = phase(x * 1.9) - 0.5, dy = phase(y * 1.9) - 0.5;
    return dx * dx + dy * dy < 0.1;
}

/* One round spot in the middle. */
static double eyed(double x, double y)
{
    return x * x + y * y < 0.28;
}

static double halved(double x, double y)
{
    (void)y;
    return x < 0;
}

static double gridded(double x, double y)
{
    return phase(x * 1.8) < 0.22 || phase(y * 1.8) < 0.22;
}

/* From one side to the other. */
static double shaded(double x, double y)
{
    (void)y;
    double share = 0.5 + 0.6 * x;
    return share < 0 ? 0 : share > 1 ? 1 : share;
}

/* Small cells of either colour, as chance (a hash of the cell) has it. */
static double speckled(double x, double y)
{
    uint32_t cell = (uint32_t)(x * 5 + 100) * 0x9e3779b1U ^ (uint32_t)(y * 5 + 100) * 0x85ebca77U;
    cell = (cell ^ cell >> 15) * 0x2c1b3c6dU;
    return cell >> 31;
}

/* One band across the middle. */
static double banded(double x, double y)
{
    (void)x;
    return y < 0.22 && y > -0.22;
}

static const struct texture {
    const char *name;
    double (*second)(double x, double y);
} textures[KINDS] = {
    {"dotted",   dotted  },
    {"striped",  striped },
    {"banded",   banded  },
    {"checked",  checked },
    {"halved",   halved  },
    {"gridded",  gridded },
    {"shaded",   shaded  },
    {"speckled", speckled},
    {"eyed",     eyed    },
    {"plain",    plain   },
};

static const struct shape *shape_of(int number)
{
    return &shapes[number % KINDS];
}

static const struct texture *texture_of(int number)
{
    return &textures[(number + number / KINDS) % KINDS];
}

void draw_words(int number, char *out, size_t size)
{
    snprintf(out, size, "%s %s", texture_of(number)->name, shape_of(number)->name);
}

int draw_is_round(int number)
{
    return shape_of(number)->inside != NULL;
}

/* ---- chance ---- */

static double between(struct rng *random, double low, double high)
{
    return low + (high - low) * rng_double(random);
}

static uint8_t clamp(int value)
{
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

struct colour {
    int rgb[3];
};

static int luma(struct colour c)
{
    return (299 * c.rgb[0] + 587 * c.rgb[1] + 114 * c.rgb[2]) / 1000;
}

/* Any colour of a brightness (luma) from LOW to HIGH. */
static struct colour any_colour(struct rng *random, int low, int high)
{
    struct colour c;
    do {
        for (int i = 0; i < 3; i++)
            c.rgb[i] = (int)rng_below(random, 256);
    } while (luma(c) < low || luma(c) > high);
    return c;
}

/* A direction, without sines: their last bits differ from library to library. */
static void any_turn(struct rng *random, double *c, double *s)
{
    double length;
    do {
        *c = between(random, -1, 1);
        *s = between(random, -1, 1);
        length = *c * *c + *s * *s;
    } while (length > 1 || length < 0.01);
    *c /= sqrt(length);
    *s /= sqrt(length);
}

/* ---- painting ---- */

struct canvas {
    int width, height;
    uint8_t *rgb;
};

/* Add SHARE (of 256) of COLOUR to a pixel. */
static void blend(uint8_t *pixel, struct colour colour, int share)
{
    for (int i = 0; i < 3; i++)
        pixel[i] = (uint8_t)((pixel[i] * (256 - share) + colour.rgb[i] * share + 128) >> 8);
}

static void paint_gradient(const struct canvas *canvas, struct rng *random, struct colour from,
                           struct colour to)
{
    double c, s;
    any_turn(random, &c, &s);
    double reach = canvas->width + canvas->height;
    for (int y = 0; y < canvas->height; y++)
        for (int x = 0; x < canvas->width; x++) {
            uint8_t *pixel = canvas->rgb + ((size_t)y * (size_t)canvas->width + (size_t)x) * 3;
            double t =
                0.5 + (c * (x - canvas->width * 0.5) + s * (y - canvas->height * 0.5)) / reach;
            int share = (int)(t * 256);
            for (int i = 0; i < 3; i++)
                pixel[i] = clamp((from.rgb[i] * (256 - share) + to.rgb[i] * share) / 256);
        }
}

/* A soft spot of radius R. */
static void paint_blob(const struct canvas *canvas, double cx, double cy, double r,
                       struct colour colour, int strength)
{
    for (int y = (int)(cy - r); y <= (int)(cy + r); y++)
        for (int x = (int)(cx - r); x <= (int)(cx + r); x++) {
            double dx = x - cx, dy = y - cy, fall = 1 - (dx * dx + dy * dy) / (r * r);
            if (x < 0 || y < 0 || x >= canvas->width || y >= canvas->height || fall <= 0)
                continue;
            blend(canvas->rgb + ((size_t)y * (size_t)canvas->width + (size_t)x) * 3, colour,
                  (int)(fall * strength));
        }
}

/* A line through (CX, CY) in direction (C, S), THICK pixels wide, from one edge to the other. */
static void paint_line(const struct canvas *canvas, double cx, double cy, double c, double s,
                       double thick, struct colour colour)
{
    for (int y = 0; y < canvas->height; y++)
        for (int x = 0; x < canvas->width; x++) {
            double off = (x - cx) * s - (y - cy) * c;
            double cover = thick / 2 + 0.5 - (off < 0 ? -off : off);
            if (cover > 0)
                blend(canvas->rgb + ((size_t)y * (size_t)canvas->width + (size_t)x) * 3, colour,
                      cover >= 1 ? 200 : (int)(cover * 200));
        }
}

/* One shape: its middle, size, direction, and how much it is squeezed across. */
struct figure {
    double x, y, radius, c, s, squeeze;
    struct colour colours[2];
};

/* Four points a pixel. */
static void paint_figure(const struct canvas *canvas, int number, const struct figure *figure)
{
    const struct shape *shape = shape_of(number);
    const struct texture *texture = texture_of(number);
    double reach = figure->radius * (figure->squeeze > 1 ? figure->squeeze : 1) + 1;
    for (int y = (int)(figure->y - reach); y <= (int)(figure->y + reach); y++)
        for (int x = (int)(figure->x - reach); x <= (int)(figure->x + reach); x++) {
            if (x < 0 || y < 0 || x >= canvas->width || y >= canvas->height)
                continue;
            int hits = 0;
            double second = 0;
            for (int k = 0; k < 4; k++) {
                double dx = x + (k & 1 ? 0.75 : 0.25) - figure->x;
                double dy = y + (k & 2 ? 0.75 : 0.25) - figure->y;
                double u = (dx * figure->c + dy * figure->s) / figure->radius;
                double v = (dy * figure->c - dx * figure->s) / (figure->radius * figure->squeeze);
                if (in_shape(shape, u, v)) {
                    hits++;
                    second += texture->second(u, v);
                }
            }
            uint8_t *pixel = canvas->rgb + ((size_t)y * (size_t)canvas->width + (size_t)x) * 3;
            for (int i = 0; i < 3 && hits; i++)
                pixel[i] =
                    (uint8_t)((pixel[i] * (4 - hits) + figure->colours[0].rgb[i] * (hits - second) +
                               figure->colours[1].rgb[i] * second + 2) /
                              4);
        }
}

static void paint_noise(const struct canvas *canvas, struct rng *random, int strength)
{
    size_t count = (size_t)canvas->width * (size_t)canvas->height;
    uint32_t bits = 0;
    for (size_t i = 0; i < count; i++) {
        if (i % 4 == 0)
            bits = rng_u32(random);
        int change = ((int)(bits & 255) - 128) * strength / 128;
        bits >>= 8;
        for (int k = 0; k < 3; k++)
            canvas->rgb[i * 3 + (size_t)k] = clamp(canvas->rgb[i * 3 + (size_t)k] + change);
    }
}

static void paint_background(const struct canvas *canvas, struct rng *random, struct colour base)
{
    int shorter = canvas->width < canvas->height ? canvas->width : canvas->height;
    struct colour other = base;
    for (int i = 0; i < 3; i++)
        other.rgb[i] = clamp(base.rgb[i] + (int)between(random, -60, 60));
    paint_gradient(canvas, random, base, other);
    int blobs = 1 + (int)rng_below(random, 4), lines = (int)rng_below(random, 3);
    for (int i = 0; i < blobs; i++) {
        double x = between(random, 0, canvas->width), y = between(random, 0, canvas->height);
        double radius = between(random, 0.1, 0.4) * shorter;
        struct colour colour = any_colour(random, 50, 150);
        paint_blob(canvas, x, y, radius, colour, (int)between(random, 40, 110));
    }
    for (int i = 0; i < lines; i++) {
        double c, s, x = between(random, 0, canvas->width), y = between(random, 0, canvas->height);
        any_turn(random, &c, &s);
        double thick = between(random, 0.01, 0.03) * shorter;
        paint_line(canvas, x, y, c, s, thick, any_colour(random, 40, 160));
    }
}

/* A figure that does not lie over one of the COUNT others by much; false when this try finds no
 * room. */
static bool find_room(const struct canvas *canvas, struct rng *random, const struct figure *others,
                      int count, struct figure *out)
{
    int shorter = canvas->width < canvas->height ? canvas->width : canvas->height;
    out->radius = between(random, 0.26, 0.40) * shorter;
    out->x = between(random, 0.06, 0.94) * canvas->width;
    out->y = between(random, 0.06, 0.94) * canvas->height;
    for (int i = 0; i < count; i++) {
        double dx = out->x - others[i].x, dy = out->y - others[i].y;
        double apart = 0.85 * (out->radius + others[i].radius);
        if (dx * dx + dy * dy < apart * apart)
            return false;
    }
    return true;
}

void draw_picture(struct rng *random, int number, int width, int height, uint8_t *rgb)
{
    enum { FIGURES = 16, TRIES = 60 };
    const struct canvas canvas = {width, height, rgb};
    struct figure figures[FIGURES];
    int count = 0;
    double covered = 0;
    struct colour base = any_colour(random, 75, 130);
    paint_background(&canvas, random, base);
    for (int i = 0; i < TRIES && count < FIGURES && covered < 0.6 * width * height; i++) {
        struct figure *figure = figures + count;
        if (!find_room(&canvas, random, figures, count, figure))
            continue;
        any_turn(random, &figure->c, &figure->s);
        figure->squeeze = between(random, 0.8, 1.2);
        figure->colours[0] = any_colour(random, 190, 255);
        figure->colours[1] = any_colour(random, 0, 45);
        paint_figure(&canvas, number, figure);
        covered += 3.1 * figure->radius * figure->radius;
        count++;
    }
    paint_noise(&canvas, random, (int)rng_below(random, 24));
}
