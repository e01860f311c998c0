// A convolution of stride 1 and its gradients, by the matrix tiles of AMX, for maps of bfloat16 in
// channels_last: (images, height, width, channels).
//
// The batch norm and the ReLU behind a convolution are not written: its maps are those before them,
// with what the batch norm does to each channel, and who reads them does that. The gradient of maps
// is in all cases that of what is read, or of what a pooling makes of it.

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__AVX512BW__) \
    && defined(__AVX512VL__) && defined(__linux__)

#include "convolve.hpp"
#include "gather.hpp"

namespace {

void forward(const bfloat16 *x, float *of_x, bfloat16 *y, const float *filters, const float *bias,
             const float *weight, const float *shift, float *of_y, const Shape &shape,
             float epsilon)
{
    const Grid grid(shape);
    const Side from = before(shape), to = behind(shape);
    Filters own(filters, shape, false);
    Array<float> biases(up(to.channels, 2 * rows));
    if (bias)
        std::copy_n(bias, to.channels, biases.begin());
    Line line(grid, from.channels);
    Totals totals(to.channels);
    const Tiles tiles;
    grid.each_group(shape.images, [&](int64_t image, int64_t images) {
        if (images < grid.group)
            line.clear(); // of images that were there before
        lay(x + image * from.image(), of_x, line, images, from);
        settle();
        const auto write = [&](auto watch) {
            convolve(line, y + image * to.image(), images, to, shape.padding, grid, own,
                     biases.begin(), watch, totals);
        };
        if (of_y)
            write(Squares());
        else
            write(Nothing());
    });
    if (!of_y)
        return;
    Statistics norm(of_y, to.channels);
    const int64_t places = shape.images * to.height * to.width;
    for (int64_t channel = 0; channel < to.channels; channel++) {
        const double mean = totals.first[channel] / double(places);
        const double spread = totals.second[channel] / double(places) - mean * mean;
        norm.conclude(channel, float(mean), float(spread), places, weight, shift, epsilon);
    }
    norm.passed[0] = std::numeric_limits<float>::quiet_NaN();
}

// Writes the gradients of the weight and the bias of a batch norm behind, and returns what they say
// of the gradient that lay_gradient writes.
Along differentiate(const Gradient &from, const bfloat16 *y, Statistics batch, float *dweight,
                    float *dbias, Side of, int64_t images)
{
    const Maps maps{images * of.height * of.width, of.channels, true};
    if (from.which) {
        const Side half = of.half();
        const Maps some{images * half.height * half.width, of.channels, true};
        add_gradients(from.found, dbias, dweight, batch, some,
                      [=](int64_t element, int64_t, auto value) {
            constexpr int count = sizeof value / sizeof(float);
            const auto gradient = read<count>(from.numbers + element);
            return read_bytes<count>(from.which + element) < 4 ? gradient : Floats<count>{};
        });
    } else if (std::isfinite(batch.passed[0])) {
        std::copy_n(batch.passed, of.channels, dbias);
        std::copy_n(batch.passed_off, of.channels, dweight);
    } else {
        auto scales = maps.wide(batch.scale), shifts = maps.wide(batch.shift);
        const Scaled norm{scales.begin(), shifts.begin()};
        add_gradients(y, dbias, dweight, batch, maps,
                      [=](int64_t element, int64_t place, auto value) {
            constexpr int count = sizeof value / sizeof(float);
            return norm.passed(place, value, read<count>(from.numbers + element));
        });
    }
    batch.passed[0] = std::numeric_limits<float>::quiet_NaN(); // for another backward pass
    return conclude_gradients(dbias, dweight, batch, of.channels, maps.rows);
}

// Tells a batch norm before what is known of its gradients.
void tell(Statistics batch, const Totals &totals, int64_t channels)
{
    const bool first = std::isnan(batch.passed[0]);
    for (int64_t channel = 0; channel < channels; channel++) {
        batch.passed[channel] = float(totals.first[channel]);
        batch.passed_off[channel] = float(totals.second[channel]);
    }
    if (!first || !std::isfinite(batch.passed[0]))
        batch.passed[0] = std::numeric_limits<float>::infinity();
}

void backward(const Gradient &dy, const bfloat16 *y, float *of_y, const bfloat16 *x, float *of_x,
              bfloat16 *dx, const float *filters, float *dfilters, float *dbias, float *dnorm,
              const Shape &shape)
{
    const Grid grid(shape);
    const Side from = before(shape), to = behind(shape);
    const Statistics batch(of_y, to.channels);
    Filters own(filters, shape, true);
    Array<float> none(up(from.channels, 2 * rows));
    Line maps(grid, from.channels), gradients(grid, to.channels);
    const bool flat = from.channels == 1;
    const Shape gathering = flat ? shape.flat() : shape;
    Turned turned(grid, gathering.channels);
    Pairs pairs(grid, to.channels);
    Gathered gathered(gathering);
    Totals totals(from.channels);
    Along along;
    if (of_y)
        along = differentiate(dy, y, batch, dnorm, dnorm + to.channels, to, shape.images);
    const Tiles tiles;
    grid.each_group(shape.images, [&](int64_t image, int64_t images) {
        if (images < grid.group)
            gradients.clear();
        const int64_t element = image * to.image();
        if (dy.which)
            lay_gradient(dy.from(image * to.half().image()), y + element, batch, along, gradients,
                         images, to);
        else if (of_y)
            lay_gradient(dy.numbers + element, y + element, batch, along, gradients, images, to);
        else
            lay(dy.numbers + element, nullptr, gradients, images, to);
        lay(x + image * from.image(), of_x, maps, images, from);
        if (flat)
            turned.take_taps(maps, shape, grid);
        else
            turned.take(maps);
        pairs.take(gradients);
        if (dbias)
            pairs.add_to(dbias, to.channels);
        settle();
        gathered.add(turned, pairs, grid);
        const auto write = [&](auto watch) {
            convolve(gradients, dx + image * from.image(), images, from,
                     shape.kernel - 1 - shape.padding, grid, own, none.begin(), watch, totals);
        };
        if (dx && of_x)
            write(Passed(x + image * from.image(), Statistics(of_x, from.channels)));
        else if (dx)
            write(Nothing());
    });
    if (dx && of_x)
        tell(Statistics(of_x, from.channels), totals, from.channels);
    gathered.write(dfilters);
}

} // namespace

extern "C" {

bool has_tiles()
{
    static const bool yes = tiles_are_allowed();
    return yes;
}

void convolve_bfloat16(const bfloat16 *x, float *of_x, bfloat16 *y, const float *filters,
                       const float *bias, const float *weight, const float *shift, float *of_y,
                       const Shape *shape, float epsilon)
{
    forward(x, of_x, y, filters, bias, weight, shift, of_y, *shape, epsilon);
}

void convolve_back_bfloat16(const bfloat16 *dy, const uint8_t *which, const bfloat16 *found,
                            const bfloat16 *y, float *of_y, const bfloat16 *x, float *of_x,
                            bfloat16 *dx, const float *filters, float *dfilters, float *dbias,
                            float *dnorm, const Shape *shape)
{
    backward({dy, which, found}, y, of_y, x, of_x, dx, filters, dfilters, dbias, dnorm, *shape);
}
}

#else

extern "C" bool has_tiles()
{
    return false;
}

#endif
