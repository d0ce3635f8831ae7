# What a build takes from npm: rwkv_npm_ci.
find_program(RWKV_NPM npm)
if(NOT RWKV_NPM)
  message(FATAL_ERROR "npm is missing: rwkv-press carries a page with charts, which are taken from "
          "it. scripts/setup.sh installs nodejs and npm; -DRWKV_BUILD_COMPRESSOR=OFF builds without.")
endif()

# rwkv_npm_ci(SOURCE STAMP): what package-lock.json in the folder SOURCE pins is in
# CMAKE_CURRENT_BINARY_DIR/npm/node_modules when the file STAMP (a variable) is there. Nothing is
# written beside the sources, checksums are compared, and no script of a package is run.
function(rwkv_npm_ci source stamp)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/npm)
  set(inputs ${source}/package.json ${source}/package-lock.json)
  add_custom_command(
    OUTPUT ${folder}/installed
    COMMAND ${CMAKE_COMMAND} -E make_directory ${folder}
    COMMAND ${CMAKE_COMMAND} -E copy ${inputs} ${folder}
    COMMAND ${CMAKE_COMMAND} -E chdir ${folder}
            ${RWKV_NPM} ci --ignore-scripts --no-audit --no-fund --loglevel=error
    COMMAND ${CMAKE_COMMAND} -E touch ${folder}/installed
    DEPENDS ${inputs} COMMENT "Fetching what ${source}/package-lock.json pins" VERBATIM)
  set(${stamp} ${folder}/installed PARENT_SCOPE)
endfunction()
