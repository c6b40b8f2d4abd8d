"""The configurations of nginx: the origin, a reverse proxy, and a cache that is looked up in Redis by Lua.

One process each, without a master: it works as a worker does, and nothing is left of it when it is killed.
"""

from __future__ import annotations

from pathlib import Path

MODULES = Path("/usr/lib/nginx/modules")  # Debian's

_BEGIN = """\
daemon off; master_process off; worker_rlimit_nofile 65536; pid nginx.pid; error_log stderr warn;
events { worker_connections 32768; }
http {
  access_log off; server_tokens off; default_type application/json;
  keepalive_requests 1000000000; keepalive_timeout 1h; lingering_close off;
  client_body_temp_path <place>/body; proxy_temp_path <place>/proxy; fastcgi_temp_path <place>/fastcgi;
  uwsgi_temp_path <place>/uwsgi; scgi_temp_path <place>/scgi;
"""

ORIGIN_CONF = (
    _BEGIN
    + """\
  server {
    listen 127.0.0.1:<port> backlog=8192;
    location /api/data { add_header Cache-Control no-store; return 200 '<body>\\n'; }
    location /api/users { add_header Cache-Control max-age=3600; return 200 '<body>\\n'; }
    location /failing { add_header Cache-Control no-store always; return 503 '<body>\\n'; }
    location /stale { proxy_pass http://127.0.0.1:<slow>; }
    location = /status { stub_status; }
  }
}
"""
)

PROXY_CONF = (
    _BEGIN
    + """\
  upstream origin { server 127.0.0.1:<origin>; keepalive 32; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:<port> backlog=8192;
    location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
"""
)

LOOKUP_CONF = (
    "load_module <modules>/ndk_http_module.so;\nload_module <modules>/ngx_http_lua_module.so;\n"
    + _BEGIN
    + """\
  upstream origin { server 127.0.0.1:<origin>; keepalive 32; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:<port> backlog=8192;
    location /origin/ {
      internal; proxy_pass http://origin/; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host;
    }
    location / {
      content_by_lua_block {
        local redis = require("nginx.redis"):new()
        redis:set_timeout(1000)
        local key = "cache:" .. ngx.var.host .. ngx.var.request_uri
        local connected = redis:connect("127.0.0.1", <redis>)
        local body = connected and redis:get(key)
        if body and body ~= ngx.null then
          ngx.header["X-Cache"] = "hit"
        else
          local answer = ngx.location.capture("/origin" .. ngx.var.request_uri)
          ngx.status, body = answer.status, answer.body
          ngx.header["X-Cache"] = "miss"
          if connected and answer.status == 200 and answer.header["Cache-Control"] ~= "no-store" then
            redis:setex(key, 3600, body)
          end
        end
        if connected then redis:set_keepalive(60000, 64) end
        ngx.header["Content-Type"] = "application/json"
        ngx.header["Content-Length"] = #body
        ngx.print(body)
      }
    }
  }
}
"""
)
