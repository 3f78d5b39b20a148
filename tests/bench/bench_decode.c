/*
 * bench_decode.c - the floor of packing: libjpeg-turbo alone decodes all files named on standard
 * input, THREADS at once, and throws the rows away. Prints files per second.
 *
 * usage: find ... | bench_decode THREADS
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jpeglib.h>

enum { FILES_MOST = 1 << 20, FILE_MOST = 64 << 20 };

static char **names;
static int name_count;
static atomic_int next;

static void decode(const char *name, unsigned char *bytes)
{
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    FILE *file = fopen(name, "rb");
    if (!file)
        exit(4);
    size_t size = fread(bytes, 1, FILE_MOST, file);
    fclose(file);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, bytes, size);
    jpeg_read_header(&jpeg, TRUE);
    if (jpeg.num_components == 3)
        jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    unsigned char *row = malloc((size_t)jpeg.output_width * 4);
    if (!row)
        exit(5);
    while (jpeg.output_scanline < jpeg.output_height)
        jpeg_read_scanlines(&jpeg, &row, 1);
    free(row);
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
}

static void *work(void *unused)
{
    unsigned char *bytes = malloc(FILE_MOST);
    if (!bytes)
        exit(5);
    for (int i; (i = atomic_fetch_add(&next, 1)) < name_count;)
        decode(names[i], bytes);
    free(bytes);
    return unused;
}

int main(int argc, char **argv)
{
    int threads = argc == 2 ? atoi(argv[1]) : 0;
    pthread_t ids[64];
    char line[4096];
    struct timespec begin, end;
    if (threads < 1 || threads > 64 || !(names = malloc(FILES_MOST * sizeof *names))) {
        fprintf(stderr, "usage: find ... | bench_decode THREADS\n");
        return 2;
    }
    while (name_count < FILES_MOST && fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!(names[name_count++] = strdup(line)))
            return 5;
    }
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, NULL))
            return 1;
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.1f\n", name_count / ((double)(end.tv_sec - begin.tv_sec) +
                                   (double)(end.tv_nsec - begin.tv_nsec) * 1e-9));
    for (int i = 0; i < name_count; i++)
        free(names[i]);
    free(names);
    return 0;
}
