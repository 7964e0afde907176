// kinesis-mock listens on every interface and has no setting for the address. This file is loaded before it and makes
// every server of the process listen on 127.0.0.1.
const { Server } = require('node:net');

const listen = Server.prototype.listen;
Server.prototype.listen = function (port, ...rest) {
  if (typeof port !== 'number') {
    throw new Error('this server does not listen on a port: loopback.cjs does not know what to do');
  }
  return listen.call(this, port, '127.0.0.1', rest.at(-1));
};
