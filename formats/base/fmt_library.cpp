// The fmt library, compiled once from its headers: Debian ships it as a shared library only, which
// the runtime may not link, and compiling it into every file (FMT_HEADER_ONLY) takes three times
// as long. Instantiated here is what fmt's headers declare as extern.
#include <fmt/format-inl.h>

FMT_BEGIN_NAMESPACE
namespace detail {

template FMT_API auto dragonbox::to_decimal(float x) noexcept -> dragonbox::decimal_fp<float>;
template FMT_API auto dragonbox::to_decimal(double x) noexcept -> dragonbox::decimal_fp<double>;
template FMT_API auto thousands_sep_impl(locale_ref loc) -> thousands_sep_result<char>;
template FMT_API auto decimal_point_impl(locale_ref loc) -> char;
template FMT_API void buffer<char>::append(const char* begin, const char* end);
#if FMT_VERSION < 100000
template FMT_API void vformat_to(buffer<char>& out, string_view format,
                                 basic_format_args<FMT_BUFFER_CONTEXT(char)> args, locale_ref loc);
#elif FMT_VERSION < 110000
template FMT_API void vformat_to(buffer<char>& out, string_view format, vformat_args<>::type args,
                                 locale_ref loc);
#endif  // no template from version 11 on

}  // namespace detail
FMT_END_NAMESPACE
