-- Where the other containers of a service are.

local kumo = require 'kumo'

local docker_utils = {}

--- The IPv4 addresses of a host or a service; of all its containers with endpoint_mode dnsrr.
docker_utils.resolve_docker_name = kumo.memoize(function(name)
  return kumo.dns.lookup_addr(name, nil, 'Ipv4Only')
end, { name = 'resolve_docker_name', ttl = '1 minute', capacity = 1024 })

--- The network of this container, taken to be a /24, as CIDR.
docker_utils.resolve_docker_network = kumo.memoize(function()
  local hostname = os.getenv 'HOSTNAME'
  if not hostname then
    error('docker_utils: HOSTNAME is not set in the environment', 0)
  end
  local address = docker_utils.resolve_docker_name(hostname)[1]
  if not address then
    error(string.format("docker_utils: HOSTNAME '%s' has no IPv4 address", hostname), 0)
  end
  return address:gsub('%d+$', '0') .. '/24'
end, { name = 'resolve_docker_network', ttl = '1 hour', capacity = 1 })

--- The URLs of the traffic shaping daemons, which are the service 'tsa'.
function docker_utils.resolve_tsa_endpoints()
  local urls = {}
  for n, address in ipairs(docker_utils.resolve_docker_name 'tsa') do
    urls[n] = string.format('http://%s:8008', address)
  end
  return urls
end

return docker_utils
