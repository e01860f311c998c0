// A convolution of stride 1 and its gradients, by the matrix tiles of AMX, for maps of bfloat16 in
// channels_last: (images, height, width, channels).
//
// The batch norm and the ReLU behind a convolution are not written: its maps are those before them,
// with what the batch norm does to each channel, and who reads them does that. The gradient of maps
// is in all cases that of what is read.

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__linux__)

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
        convolve(line, y + image * to.image(), images, to, shape.padding, grid, own,
                 biases.begin(), of_y ? &totals : nullptr);
    });
    if (!of_y)
        return;
    Statistics norm(of_y, to.channels);
    const double places = double(shape.images * to.height * to.width);
    for (int64_t channel = 0; channel < to.channels; channel++) {
        const double mean = totals.sums[channel] / places;
        const double spread = totals.squares[channel] / places - mean * mean;
        norm.conclude(channel, float(mean), float(spread), weight, shift, epsilon);
    }
}

void backward(const bfloat16 *dy, const bfloat16 *y, float *of_y, const bfloat16 *x, float *of_x,
              bfloat16 *dx, const float *filters, float *dfilters, float *dbias, float *dweight,
              float *dshift, const Shape &shape)
{
    const Grid grid(shape);
    const Side from = before(shape), to = behind(shape);
    Filters own(filters, shape, true);
    Array<float> none(up(from.channels, 2 * rows));
    Line maps(grid, from.channels), gradients(grid, to.channels);
    // One channel's taps are multiplied as so many channels of a convolution of one tap.
    const bool flat = from.channels == 1;
    const Shape gathering = flat ? Shape{shape.images, shape.height, shape.width, shape.taps(), shape.filters, 1, 0} : shape;
    Turned turned(grid, gathering.channels);
    Pairs pairs(grid, to.channels);
    Gathered gathered(gathering);
    Along along;
    if (of_y) {
        const Maps all{shape.images * to.height * to.width, to.channels, true};
        const Statistics norm(of_y, to.channels);
        auto scales = all.wide(norm.scale), shifts = all.wide(norm.shift);
        const float *const scale = scales.begin(), *const shift = shifts.begin();
        along = differentiate(y, dweight, dshift, norm, all, [=](auto element, auto place, auto value) {
            constexpr int count = sizeof value / sizeof(float);
            const auto normed = value * read<count>(scale + place) + read<count>(shift + place);
            const auto passed = read<count>(dy + element);
            return normed > 0 ? passed : decltype(passed){};
        });
    }
    const Tiles tiles;
    grid.each_group(shape.images, [&](int64_t image, int64_t images) {
        if (images < grid.group)
            gradients.clear();
        const int64_t element = image * to.image();
        if (of_y)
            lay_gradient(dy + element, y + element, Statistics(of_y, to.channels), along, gradients,
                         images, to);
        else
            lay(dy + element, nullptr, gradients, images, to);
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
        if (dx)
            convolve(gradients, dx + image * from.image(), images, from,
                     shape.kernel - 1 - shape.padding, grid, own, none.begin(), nullptr);
    });
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

void convolve_back_bfloat16(const bfloat16 *dy, const bfloat16 *y, float *of_y, const bfloat16 *x,
                            float *of_x, bfloat16 *dx, const float *filters, float *dfilters,
                            float *dbias, float *dweight, float *dshift, const Shape *shape)
{
    backward(dy, y, of_y, x, of_x, dx, filters, dfilters, dbias, dweight, dshift, *shape);
}
}

#else

extern "C" bool has_tiles()
{
    return false;
}

#endif
