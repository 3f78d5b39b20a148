#include "train/board.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/decode.h"
#include "common/err.h"
#include "common/mem.h"
#include "train/events.h"
#include "train/packed.h"
#include "version.h"

enum { GRID = 4, TEXT_SIZE = 8192, NUMBERS = 8 };

struct board {
    struct events *events;
    const struct model *model;
    int accumulate;
    double scale;    /* of the loss; 1 where there is none */
    float *gradient; /* of the largest parameter */
    struct picture grid;
    uint8_t *square, *line; /* where pictures are packed: one of them, and to work in */
    uint8_t *png;
    size_t png_capacity;
};

/* Every setting as a Markdown table. */
static void tell_settings(struct board *board, const struct settings *settings, int64_t seen)
{
    char text[TEXT_SIZE], value[512];
    size_t used = (size_t)snprintf(text, sizeof text,
                                   "| setting | value |\n|---|---|\n| version | %s (%s) |\n",
                                   TOOL_VERSION, TOOL_REVISION);
    for (const struct opts_row *row = settings_command.rows; row->name; row++) {
        opts_value(row, settings, value, sizeof value);
        int size = snprintf(text + used, sizeof text - used, "| %s | %s |\n", row->name, value);
        if (used + (size_t)size < sizeof text)
            used += (size_t)size;
    }
    text[used] = 0;
    events_text(board->events, "settings", seen, text);
}

static size_t largest_parameter(const struct model *model)
{
    size_t largest = 0;
    for (size_t i = 0; i < model->trained_count; i++)
        if (model->parameters[i].count > largest)
            largest = model->parameters[i].count;
    return largest;
}

uint64_t board_memory(const struct model *model, bool packs)
{
    const uint64_t side = (uint64_t)model->settings.image_size;
    const int most = GRID * GRID,
              shown = model->settings.batch < most ? model->settings.batch : most;
    return largest_parameter(model) * sizeof(float) + 2 * 3 * side * side * (uint64_t)shown +
           (packs ? 3 * side * side + PACKED_LINE : 0);
}

int board_open(struct board **out, const char *folder, const struct settings *settings,
               const struct model *model, int64_t seen)
{
    struct board *board = mem_array(1, sizeof *board, "TensorBoard");
    int rc = -ERR_MEMORY;
    *out = NULL;
    if (!board)
        return rc;
    board->model = model;
    board->accumulate = (int)settings->accumulate;
    board->scale = 1;
    if (!(board->gradient = mem_array(largest_parameter(model), sizeof(float), "gradient")) ||
        (rc = events_open(&board->events, folder, seen ? seen + 1 : 0))) {
        board_close(board);
        return rc;
    }
    tell_settings(board, settings, seen);
    *out = board;
    return 0;
}

void board_close(struct board *board)
{
    if (!board)
        return;
    events_close(board->events);
    picture_release(&board->grid);
    mem_free(board->gradient);
    mem_free(board->square);
    mem_free(board->line);
    mem_free(board->png);
    mem_free(board);
}

void board_step(struct board *board, int64_t seen, const struct metrics_step *line)
{
    if (!board)
        return;
    events_scalar(board->events, "training loss", seen, line->loss);
    events_scalar(board->events, "update/learning rate", seen, line->lr);
    events_scalar(board->events, "training speed/pictures a second", seen, line->img_per_s);
    events_scalar(board->events, "training speed/share of time waiting for data", seen,
                  line->data_wait);
}

void board_validation(struct board *board, int64_t seen, const struct evaluation *evaluation)
{
    if (!board)
        return;
    events_scalar(board->events, "test loss", seen, evaluation->loss);
    events_scalar(board->events, "test accuracy", seen, evaluation->top1);
    events_scalar(board->events, "test accuracy5", seen, evaluation->top5);
}

int board_scale(struct board *board, struct net *net)
{
    const char *const *names = board ? net_number_names(net) : NULL;
    double numbers[NUMBERS];
    size_t count = 0;
    while (names && names[count])
        count++;
    if (!count || count > NUMBERS)
        return 0;
    int rc = net_numbers_get(net, numbers);
    for (size_t i = 0; i < count && !rc; i++)
        if (!strcmp(names[i], "loss_scale"))
            board->scale = numbers[i];
    return rc;
}

int board_gradients(struct board *board, int64_t seen, struct net *net)
{
    double sum = 0;
    int rc;
    if (!board)
        return 0;
    for (size_t i = 0; i < board->model->trained_count; i++) {
        const struct parameter *p = &board->model->parameters[i];
        if ((rc = net_get(net, NET_GRADIENT, p, board->gradient)))
            return rc;
        for (size_t k = 0; k < p->count; k++)
            sum += (double)board->gradient[k] * board->gradient[k];
    }
    events_scalar(board->events, "update/gradient norm", seen,
                  sqrt(sum) / board->accumulate / board->scale);
    events_scalar(board->events, "update/loss scale", seen, board->scale);
    return 0;
}

/* Picture I of BATCH, its rows one after the other. */
static const uint8_t *picture_of(struct board *board, const struct batch *batch, int i)
{
    const size_t bytes = 3 * (size_t)batch->size * (size_t)batch->size;
    if (batch->pixels)
        return batch->pixels + (size_t)i * bytes;
    if ((!board->square && !(board->square = mem_array(bytes, 1, "a picture"))) ||
        (!board->line && !(board->line = mem_array(PACKED_LINE, 1, "a picture"))))
        return NULL;
    packed_unpack(batch->packed, i, batch->size, board->line, board->square);
    return board->square;
}

int board_pictures(struct board *board, int64_t seen, const struct batch *batch)
{
    int rc;
    if (!board)
        return 0;
    int count = batch->rows < GRID * GRID ? batch->rows : GRID * GRID, across = 1;
    while (across * across < count)
        across++;
    const int down = (count + across - 1) / across;
    const size_t side = (size_t)batch->size, row = side * 3;
    if ((rc = picture_resize(&board->grid, across * batch->size, down * batch->size)))
        return rc;
    memset(board->grid.rgb, 0, row * side * (size_t)(across * down));
    for (int i = 0; i < count; i++) {
        const uint8_t *picture = picture_of(board, batch, i);
        if (!picture)
            return -ERR_MEMORY;
        for (size_t y = 0; y < side; y++) {
            size_t line = (size_t)(i / across) * side + y;
            memcpy(board->grid.rgb + (line * (size_t)across + (size_t)(i % across)) * row,
                   picture + y * row, row);
        }
    }
    size_t size;
    if ((rc = decoder_write_png(&board->grid, &board->png, &board->png_capacity, &size)))
        return rc;
    events_picture(board->events, "training pictures", seen, board->grid.width, board->grid.height,
                   board->png, size);
    return 0;
}
