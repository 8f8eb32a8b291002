{
  "variables": {
    "isal%": "<!(test -e /usr/include/isa-l.h -o -e /usr/include/isa-l/igzip_lib.h && echo 1 || echo 0)"
  },
  "targets": [
    {
      "target_name": "peel",
      "sources": ["<!@(node sources.mjs)"],
      "include_dirs": ["src", "<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_DISABLE_DEPRECATED", "NAPI_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS", "_GNU_SOURCE", "_FILE_OFFSET_BITS=64"],
      "cflags!": ["-fno-exceptions"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
      "cflags_cc": ["-std=c++20", "-O2", "-g1", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers", "-isystem", "<(node_root_dir)/include/node"],
      "ldflags": ["-Wl,-z,relro,-z,now", "-Wl,-z,nodelete"],
      "libraries": ["-lzstd"],
      "conditions": [["isal==1", { "defines": ["PEEL_ISAL=1"], "libraries": ["-lisal"] }]]
    },
    {
      "target_name": "peel-keeper",
      "type": "executable",
      "sources": ["<!@(node sources.mjs keeper)"],
      "include_dirs": ["src"],
      "defines": ["_GNU_SOURCE", "_FILE_OFFSET_BITS=64"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
      "cflags_cc": ["-std=c++20", "-Os", "-g0", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"],
      "ldflags": ["-Wl,-z,relro,-z,now", "-static-libstdc++", "-static-libgcc"],
      "ldflags!": ["-rdynamic"]
    }
  ]
}
