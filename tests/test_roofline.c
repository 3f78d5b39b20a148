/* The roofline of `train plan --roofline`: single ops counted by hand, whole networks against the
 * published arithmetic of ResNets and our own table of traffic at level b. */
#include "train/roofline.h"

#include "tests/test.h"

static struct model *open_model(const char *arch, int batch)
{
    const struct model_settings settings = {
        .arch = arch, .classes = 1000, .batch = batch, .image_size = 224};
    struct model *model = NULL;
    CHECK(model_open(&model, &settings) == 0);
    return model;
}

static const struct op *find(const struct model *model, const char *name)
{
    for (size_t i = 0; i < model->training_count; i++)
        if (!strcmp(model->training[i].name, name))
            return &model->training[i];
    CHECK(!"no such op");
    return NULL;
}

static bool near(double value, double wanted, double share)
{
    if (fabs(value - wanted) <= share * fabs(wanted))
        return true;
    printf("%.6g, not %.6g\n", value, wanted);
    return false;
}

/* 64 x 56 x 56 is 401,408 bytes, 256 x 56 x 56 four times that. */
static void test_ops(void)
{
    struct model *model = open_model("resnet50", 16);
    const double x = 64.0 * 56 * 56 * 2;
    struct roofline_op op = roofline_op(find(model, "layer1.0.conv3"));
    CHECK(near(op.flops, 2.0 * 3 * 64 * 256 * 56 * 56, 1e-12));
    CHECK(near(op.bytes[ROOFLINE_UNFUSED], 3 * (x + 4 * x), 1e-12));
    CHECK(near(op.bytes[ROOFLINE_A], 3 * (x + 4 * x), 1e-12));
    CHECK(near(op.bytes[ROOFLINE_B], 3 * (x + 4 * x) + x, 1e-12));
    /* The first one reads 8 channels and has no dgrad. */
    op = roofline_op(find(model, "conv1"));
    CHECK(near(op.flops, 2.0 * 2 * 3 * 49 * 64 * 112 * 112, 1e-12));
    CHECK(near(op.bytes[ROOFLINE_B], 2 * (8.0 * 224 * 224 * 2 + 4 * x), 1e-12));
    op = roofline_op(find(model, "layer1.0.bn1"));
    CHECK(near(op.bytes[ROOFLINE_UNFUSED], 13 * x, 1e-12));
    CHECK(near(op.bytes[ROOFLINE_A], 8 * x + 2 * x / 16, 1e-12));
    CHECK(near(op.bytes[ROOFLINE_B], 3 * x, 1e-12));
    op = roofline_op(find(model, "layer1.0.bn3"));
    CHECK(near(op.bytes[ROOFLINE_UNFUSED], 18 * 4 * x, 1e-12));
    CHECK(near(op.bytes[ROOFLINE_A], (10 + 1.0 / 8) * 4 * x, 1e-12));
    CHECK(near(op.bytes[ROOFLINE_B], 8 * 4 * x, 1e-12));
    op = roofline_op(find(model, "layer1.0.downsample.1"));
    CHECK(near(op.bytes[ROOFLINE_UNFUSED], 8 * 4 * x, 1e-12));
    model_close(model);
}

/* GFLOP a picture: three times the forward pass's (4.09 and 11.51 G multiply-adds), less the first
 * dgrad. */
static void test_networks(void)
{
    static const struct {
        const char *arch;
        double gflop, megabytes, in_turn;
    } known[] = {
        {"resnet50",  24.29, 276, 7528},
        {"resnet152", 68.8,  581, 3238}
    };
    const struct device_row *device = devices_find("h100");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct model *model = open_model(known[i].arch, 256);
        const struct roofline all = roofline_of(model, device);
        CHECK(near(all.picture.flops / 1e9, known[i].gflop, 0.005));
        CHECK(near(all.picture.bytes[ROOFLINE_B] / 1e6, known[i].megabytes, 0.01));
        CHECK(near(all.in_turn[ROOFLINE_B], known[i].in_turn, 0.03));
        for (int level = 0; level < ROOFLINE_LEVELS; level++)
            CHECK(all.in_turn[level] < all.overlapped[level]);
        CHECK(all.in_turn[ROOFLINE_UNFUSED] < all.in_turn[ROOFLINE_A] &&
              all.in_turn[ROOFLINE_A] < all.in_turn[ROOFLINE_B]);
        CHECK(all.augmented > 10 * all.overlapped[ROOFLINE_B] && all.uploaded > all.in_turn[0]);
        model_close(model);
    }
}

static const struct test tests[] = {
    {"ops",      test_ops     },
    {"networks", test_networks},
};

TEST_MAIN(tests)
