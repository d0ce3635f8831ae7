# cmake -D OUT=page.cpp -D NPM=FOLDER -D SCRIPTS=a.js;b.js -P embed.cmake: one page of HTML from
# web/ and the packages in FOLDER/node_modules, as an array of bytes in a C++ file.
set(web ${CMAKE_CURRENT_LIST_DIR}/web)
set(packages ${NPM}/node_modules)

file(READ ${web}/page.html page)
file(READ ${web}/style.css style)
file(READ ${packages}/chart.js/dist/chart.umd.min.js library)
# It names a file that does not exist here.
string(REGEX REPLACE "\n//# sourceMappingURL=[^\n]*" "" library "${library}")

set(scripts "")
foreach(script IN LISTS SCRIPTS)
  file(READ ${script} text)
  string(APPEND scripts "${text}")
endforeach()

# The file of Chart.js contains @kurkle/color.
set(licences "")
foreach(package chart.js @kurkle/color)
  file(READ ${packages}/${package}/LICENSE.md text)
  string(APPEND licences "${package}\n\n${text}\n")
endforeach()
string(REPLACE "&" "&amp;" licences "${licences}")
string(REPLACE "<" "&lt;" licences "${licences}")

foreach(piece style library scripts)
  if("${${piece}}" MATCHES "</(script|style)|<!--")
    message(FATAL_ERROR "the ${piece} of the page would end its element: ${CMAKE_MATCH_0}")
  endif()
endforeach()

foreach(mark STYLE LICENCES LIBRARY SCRIPTS)
  string(TOLOWER ${mark} piece)
  string(FIND "${page}" "@${mark}@" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "${web}/page.html has no @${mark}@")
  endif()
  string(REPLACE "@${mark}@" "${${piece}}" page "${page}")
endforeach()

file(WRITE ${OUT}.html "${page}")
file(READ ${OUT}.html hex HEX)
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," page_bytes "${hex}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/page.cpp.in ${OUT} @ONLY)
