// batch_norm(x), relu(batch_norm(x)) or relu(batch_norm(x) + plus), and its gradient, for maps of
// bfloat16 in channels_last: rows (images, height, width) of channels.

#include "norm.hpp"

namespace {

// Writes what the batch says, and y; `plus` may be null.
void normalize(const bfloat16 *x, const bfloat16 *plus, bfloat16 *y, const float *weight,
               const float *bias, float *all, Maps maps, float epsilon)
{
    Statistics of(all, maps.channels);
    // The mean of some rows is near that of all: squares of what is left lose little to rounding.
    const Maps some{std::min<int64_t>(maps.rows, 256), maps.channels, false};
    std::vector<float> guess(maps.channels);
    some.sum(guess.data(), of.variance, [=](auto lanes, int64_t element, int64_t) {
        constexpr int count = decltype(lanes)::count;
        return Two<count>{read<count>(x + element), {}};
    });
    for (float &each : guess)
        each /= float(some.rows);
    auto guesses = maps.wide(guess.data());
    const float *const near = guesses.begin();
    maps.sum(of.mean, of.variance, [=](auto lanes, int64_t element, int64_t place) {
        constexpr int count = decltype(lanes)::count;
        const Floats<count> off = read<count>(x + element) - read<count>(near + place);
        return Two<count>{off, off * off};
    });
    for (int64_t channel = 0; channel < maps.channels; channel++) {
        const float off = of.mean[channel] / float(maps.rows);
        const float spread = of.variance[channel] / float(maps.rows) - off * off;
        of.conclude(channel, guess[channel] + off, spread, maps.rows, weight, bias, epsilon);
    }
    auto scales = maps.wide(of.scale), shifts = maps.wide(of.shift);
    const Scaled norm{scales.begin(), shifts.begin()};
    const float least = maps.relu ? 0 : -std::numeric_limits<float>::infinity();
    const auto finish = [=](auto added) {
        maps.each([=](auto lanes, int64_t element, int64_t place) {
            constexpr int count = decltype(lanes)::count;
            const Floats<count> normed = norm.at(place, read<count>(x + element));
            const Floats<count> value = added(lanes, element, normed);
            write<count>(y + element, value < least ? Floats<count>{} + least : value);
        });
    };
    if (plus)
        finish([=](auto lanes, int64_t element, auto normed) {
            return normed + read<decltype(lanes)::count>(plus + element);
        });
    else
        finish([](auto, int64_t, auto normed) { return normed; });
}

// Writes the gradients of x, of the weight and of the bias from that of batch_norm(x), which
// `first(element, place, x)` gives at the first reading, and `again` at the second.
template <typename First, typename Again>
void differentiate(const bfloat16 *x, bfloat16 *dx, float *dweight, float *dbias, Statistics of,
                   Maps maps, First first, Again again)
{
    add_gradients(x, dbias, dweight, of, maps, first);
    const Along along = conclude_gradients(dbias, dweight, of, maps.channels, maps.rows);
    auto scales = maps.wide(of.scale);
    const float *const scale = scales.begin();
    auto levels = maps.wide(along.level.data()), slopes = maps.wide(along.slope.data());
    const Scaled taken{slopes.begin(), levels.begin()};
    maps.each([=](auto lanes, int64_t element, int64_t place) {
        constexpr int count = decltype(lanes)::count;
        const Floats<count> value = read<count>(x + element);
        const auto scaled = again(element, place, value) * read<count>(scale + place);
        write<count>(dx + element, scaled - taken.at(place, value));
    });
}

// Writes the gradients for batch_norm(x), or with `maps.relu` for relu(batch_norm(x)).
void differentiate(const bfloat16 *dy, const bfloat16 *x, bfloat16 *dx, float *dweight,
                   float *dbias, float *all, Maps maps)
{
    const Statistics of(all, maps.channels);
    auto scales = maps.wide(of.scale), shifts = maps.wide(of.shift);
    const Scaled norm{scales.begin(), shifts.begin()};
    const float least = maps.relu ? 0 : -std::numeric_limits<float>::infinity();
    const auto gradient = [=](int64_t element, int64_t place, auto value) {
        return norm.passed(place, value, read<sizeof value / sizeof(float)>(dy + element), least);
    };
    differentiate(x, dx, dweight, dbias, of, maps, gradient, gradient);
}

// Writes the gradients for y = relu(batch_norm(x) + plus), that of `plus` too.
void differentiate_sum(const bfloat16 *dy, const bfloat16 *x, const bfloat16 *y, bfloat16 *dx,
                       bfloat16 *dplus, float *dweight, float *dbias, float *all, Maps maps)
{
    const auto first = [=](int64_t element, int64_t, auto value) {
        constexpr int count = sizeof value / sizeof(float);
        const auto passed = read<count>(dy + element);
        const auto each = read<count>(y + element) > 0 ? passed : decltype(passed){};
        write<count>(dplus + element, each);
        return each;
    };
    const auto again = [=](int64_t element, int64_t, auto value) {
        return read<sizeof value / sizeof(float)>(dplus + element);
    };
    differentiate(x, dx, dweight, dbias, Statistics(all, maps.channels), maps, first, again);
}

// Writes relu(batch_norm(x)) by statistics that are known.
void read_normed(const bfloat16 *x, bfloat16 *y, float *all, Maps maps)
{
    const Statistics of(all, maps.channels);
    auto scales = maps.wide(of.scale), shifts = maps.wide(of.shift);
    const Scaled norm{scales.begin(), shifts.begin()};
    maps.each([=](auto lanes, int64_t element, int64_t place) {
        constexpr int count = decltype(lanes)::count;
        write<count>(y + element, norm.relu(place, read<count>(x + element)));
    });
}

} // namespace

extern "C" {

void read_bfloat16(const bfloat16 *x, bfloat16 *y, float *statistics, int64_t rows,
                   int64_t channels)
{
    read_normed(x, y, statistics, Maps{rows, channels, true});
}

void normalize_bfloat16(const bfloat16 *x, const bfloat16 *plus, bfloat16 *y, const float *weight,
                        const float *bias, float *statistics, int64_t rows, int64_t channels,
                        float epsilon, bool relu)
{
    normalize(x, plus, y, weight, bias, statistics, Maps{rows, channels, relu}, epsilon);
}

void differentiate_bfloat16(const bfloat16 *dy, const bfloat16 *x, bfloat16 *dx, float *dweight,
                            float *dbias, float *statistics, int64_t rows, int64_t channels,
                            bool relu)
{
    differentiate(dy, x, dx, dweight, dbias, statistics, Maps{rows, channels, relu});
}

void differentiate_sum_bfloat16(const bfloat16 *dy, const bfloat16 *x, const bfloat16 *y,
                                bfloat16 *dx, bfloat16 *dplus, float *dweight, float *dbias,
                                float *statistics, int64_t rows, int64_t channels)
{
    differentiate_sum(dy, x, y, dx, dplus, dweight, dbias, statistics, Maps{rows, channels, true});
}
}
